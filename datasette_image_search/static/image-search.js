// A picture that is dropped or pasted anywhere on the page goes the way of one that
// is chosen: into the form's file field, and the form is sent. Without this script
// the field and its button do the same.

const form = document.querySelector("form.image-search-upload");

if (form) {
  const field = form.querySelector("input[type=file]");
  const button = form.querySelector("button[type=submit]");
  const status = form.querySelector("[role=status]");
  const most = Number(form.dataset.most);

  form.querySelector(".image-search-pointed").hidden = false;
  button.hidden = true; // a chosen picture is sent at once
  form.classList.add("sends-at-once");

  const say = (text, isProblem = false) => {
    status.textContent = text;
    status.classList.toggle("is-problem", isProblem);
  };

  const isPicture = (file) => file && (file.type.startsWith("image/") || !file.type);

  // By its name, before it is sent for nothing. What is said is what the server would say.
  const unreadable = Object.entries(JSON.parse(form.dataset.unreadable));
  const refusalOf = ({ name }) =>
    unreadable.find(([, endings]) => endings.some((end) => name.toLowerCase().endsWith(end)))?.[0];

  const problemOf = (file) => {
    const refusal = refusalOf(file);
    if (refusal) return refusal.replace(/\.$/, ", and choose that.");
    if (!isPicture(file)) return "This is not a picture.";
    if (file.size > most) {
      return `The picture is larger than ${form.dataset.mostInWords}, the most this server takes.`;
    }
    return "";
  };

  const send = () => {
    const problem = problemOf(field.files[0]);
    if (problem) {
      say(problem, true);
      field.value = "";
      return;
    }
    form.requestSubmit();
  };

  const take = (files) => {
    form.scrollIntoView({ block: "nearest" }); // what is said of it stands there
    const picture = [...files].find((file) => isPicture(file) && !refusalOf(file));
    if (!picture) {
      say(files.length ? problemOf(files[0]) : "This is not a picture.", true);
      return;
    }
    const one = new DataTransfer();
    one.items.add(picture);
    field.files = one.files;
    send();
  };

  field.addEventListener("change", () => field.files.length && send());

  form.addEventListener("submit", () => {
    form.classList.add("is-busy");
    say("Looking for similar pictures…");
  });

  // Back from the results: the browser shows this page as it was left.
  window.addEventListener("pageshow", () => {
    form.reset();
    form.classList.remove("is-busy");
    say("");
  });

  const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  let depth = 0; // dragenter and dragleave fire for every element on the way

  const highlight = (change) => {
    depth = Math.max(0, depth + change);
    form.classList.toggle("is-target", depth > 0);
  };

  document.addEventListener("dragenter", (event) => carriesFiles(event) && highlight(1));
  document.addEventListener("dragleave", (event) => carriesFiles(event) && highlight(-1));
  document.addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    highlight(-depth);
    take(event.dataTransfer.files);
  });

  document.addEventListener("paste", (event) => {
    const files = event.clipboardData?.files ?? [];
    if (files.length) {
      event.preventDefault();
      take(files);
    }
  });
}
