"""Train `mini` from scratch and write its weights: `python training/train.py --help`."""

import argparse
import copy
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from augment import cut_and_mix, view
from data import CACHE_SIZE, cached, leave_out, read_tables
from finish import finished, store
from losses import Learner, imitation_loss, instance_loss, kind_loss
from measure import in_words, reduced_precision, standardised, validation_figures, vectors
from optimiser import Optimiser
from teacher import SIZE, Teacher

from datasette_image_search.models import mini


def main():
    options = arguments()
    torch.manual_seed(options.seed)
    pictures = read_tables(options.pictures)
    if options.hide:  # for experiments: what is learned without these labels?
        pictures.kinds = ["" if k.startswith(options.hide) else k for k in pictures.kinds]
    leave_out(pictures, options.leave_out)
    run = Run(options, pictures)
    run.resume()
    while run.epoch < options.epochs:
        run.train_epoch()
        run.save()
        if run.epoch % options.measure_every == 0 or run.epoch == options.epochs:
            run.measure()
    if options.hide or options.leave_out:
        run.save(run.mixed())  # an experiment, which another may start from
    else:
        run.write(options.weights)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--pictures", type=Path, required=True, help="folder with grocery/ and clothing/")
    add(
        "--work",
        type=Path,
        default=Path(__file__).parent / ".cache",
        help="folder for decoded pictures and checkpoints",
    )
    add("--weights", type=Path, default=mini.WEIGHTS_FILE, help="file to write at the end")
    add("--name", default="mini", help="name of the run; the same name resumes it")
    add("--start", help="name of an earlier run, whose result this one starts from")
    add(
        "--keep",
        type=float,
        default=0.0,
        help="share of that earlier run's result in the weights that are written",
    )
    add("--teacher", type=Path, help="weights of a trained mini: what it says is learned too")
    add("--imitation", type=float, default=8.0, help="weight of what the teacher says")
    add("--epochs", type=int, default=90)
    add(
        "--cooldown",
        type=int,
        default=40,
        help="last epochs, in which the learning rate falls to 0",
    )
    add("--large", type=int, default=20, help="last epochs, in which pictures are larger")
    add("--batch", type=int, default=64, help="pictures in a step, each seen twice")
    add("--rate", type=float, default=2e-3)
    add("--gain", type=float, default=3.0, help="Muon's rate as a multiple of AdamW's")
    add("--decay", type=float, default=0.05)
    add("--average", type=float, default=0.998, help="weight of the past in the average")
    add(
        "--sizes",
        type=int,
        nargs=2,
        default=[96, 128],
        help="side of the training pictures, at first and in the last epochs",
    )
    add("--instance", type=float, default=0.3, help="weight of the instance loss")
    add("--mix", type=float, default=0.4, help="share of steps with CutMix")
    add("--smallest", type=float, default=0.25, help="area of the smallest crop")
    add("--largest", type=float, default=1.0, help="area of the largest (above 1: a margin)")
    add("--turn", type=float, default=20.0, help="largest turn, in degrees")
    add("--tint", type=float, default=0.0, help="deviation of the light's colours")
    add("--drop", type=float, default=0.0, help="share of the features left out")
    add("--attend", action="store_true", help="learn where to look, not only what to see")
    add("--hide", default="", help="drop labels with this prefix (experiments)")
    add("--leave-out", type=int, default=0, help="clothes not trained on (experiments)")
    add("--measure-every", type=int, default=5)
    add("--seed", type=int, default=1)
    add("--threads", type=int, default=0, help="CPU threads (0: torch decides)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    return options


class Run:
    """A training run: all that changes from epoch to epoch, and is saved after each."""

    def __init__(self, options, pictures):
        self.options, self.pictures = options, pictures
        self.device = options.device
        names, labels = pictures.labels()
        self.labels = torch.from_numpy(labels)
        self.rows = pictures.rows("train")
        # grocery is the smaller set with the more kinds: it is shown twice
        grocery = pictures.rows("train", "grocery/")
        self.shown = np.concatenate([self.rows, grocery])
        self.pixels = cached(pictures.files, CACHE_SIZE, options.work)
        self.tested = cached(pictures.files, mini.INPUT_SIZE, options.work)
        self.learner = Learner(len(names), options.drop)
        self.learner.to(self.device, memory_format=torch.channels_last)
        self.learner.trunk.pools.requires_grad_(options.attend)
        self.average = Learner(len(names)).to(self.device, memory_format=torch.channels_last)
        self.average.load_state_dict(self.learner.state_dict())
        self.teacher = Teacher(options.teacher, self.device) if options.teacher else None
        self.optimiser = Optimiser(self.learner, options.decay, options.gain)
        self.epoch = self.step = 0
        self.seconds = 0.0
        self.history = []
        self.checkpoint = options.work / f"{options.name}.pt"

    def resume(self):
        if not self.checkpoint.exists():
            if self.options.start:
                self.start_from(self.options.start)
            return
        kept = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        self.learner.load_state_dict(kept["learner"])
        self.average.load_state_dict(kept["average"])
        self.optimiser.load_state_dict(kept["optimiser"])
        self.epoch, self.step = kept["epoch"], kept["step"]
        self.seconds, self.history = kept["seconds"], json.loads(kept["history"])
        print(f"resumed after epoch {self.epoch}", flush=True)

    def start_from(self, run):
        """Begin at the weights of an earlier run, with a schedule of one's own."""
        weights = self.result_of(run)
        self.learner.load_state_dict(weights)
        self.average.load_state_dict(weights)
        print(f"started from {run}", flush=True)

    def result_of(self, run):
        """The weights that an earlier run has written, with its heads."""
        checkpoint = self.options.work / f"{run}.pt"
        kept = torch.load(checkpoint, map_location=self.device, weights_only=True)
        if "result" not in kept:
            raise SystemExit(f"the run {run!r} has not come to its end: start it once more.")
        return kept["result"]

    def save(self, result=None):
        kept = {
            "learner": self.learner.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "history": json.dumps(self.history),
            **({"result": result.state_dict()} if result else {}),
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(kept, part)
        part.replace(self.checkpoint)

    def rate(self, progress):
        """Learning rate at `progress` epochs: a short rise, level, then a line to 0.

        The level part does not depend on the number of epochs, so that a run can be
        ended sooner or later than planned and still be the same as one planned so.
        """
        rise = min(1.0, (progress + 0.01) / 2)
        fall = min(1.0, (self.options.epochs - progress) / self.options.cooldown)
        return self.options.rate * rise * max(fall, 0.0)

    def train_epoch(self):
        options, started = self.options, time.monotonic()
        # The epoch's own seed makes a resumed run the same as an unbroken one.
        seed = options.seed * 10_000 + self.epoch
        generator = torch.Generator(self.device).manual_seed(seed)
        torch.manual_seed(seed)  # for what the learner leaves out
        order = np.random.default_rng(seed).permutation(self.shown)
        steps = len(order) // options.batch
        last = self.epoch >= options.epochs - options.large
        size = options.sizes[1] if last else options.sizes[0]
        total = np.zeros(3)
        self.learner.train()
        for number in range(steps):
            rows = order[number * options.batch : (number + 1) * options.batch]
            self.optimiser.set_rate(self.rate(self.epoch + number / steps))
            total += self.train_step(rows, size, generator)
            if number % 50 == 49:
                speed = (number + 1) * options.batch / (time.monotonic() - started)
                print(f"  {number + 1}/{steps}, {speed:.0f} pictures/s", end="\r", flush=True)
        self.epoch += 1
        took = time.monotonic() - started
        self.seconds += took
        left = (options.epochs - self.epoch) * took / 60
        print(
            f"epoch {self.epoch}/{options.epochs} at {size} px: "
            f"kinds {total[0] / steps:.3f}, instances {total[1] / steps:.3f}, "
            f"imitation {total[2] / steps:.3f}, "
            f"{took:.0f} s, {left:.0f} min left",
            flush=True,
        )

    def train_step(self, rows, size, generator):
        """One step on two views of each picture. Returns the three losses."""
        options, count = self.options, len(rows)
        labels = self.labels[rows].to(self.device)
        clean, other, order, share = self.views(rows, size, generator)
        said = self.teacher.says(other) if self.teacher else None
        if other.shape[-1] > size:
            other = F.interpolate(other, (size, size), mode="area")
        both = torch.cat([clean, other]).contiguous(memory_format=torch.channels_last)
        with reduced_precision(self.device):
            features = self.learner.features(both)
            embedded = self.learner.embed(features).float()
        projected = self.learner.projection(embedded)

        def kinds_of(part, labels):
            return kind_loss(part, self.learner.kinds, labels)

        of_clean = kinds_of(embedded[:count], labels)
        of_other = share * kinds_of(embedded[count:], labels)
        if share < 1:
            of_other = of_other + (1 - share) * kinds_of(embedded[count:], labels[order])
        kinds = (of_clean + of_other).mean() / 2
        instances = instance_loss(projected[count:], projected[:count], order, share).mean()
        imitation = torch.zeros(())
        if self.teacher:
            imitation = imitation_loss(self.learner.taught(features[count:].float()), said).mean()
        loss = kinds + options.instance * instances + options.imitation * imitation
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.learner.parameters(), 5.0)
        self.optimiser.step()
        self.step += 1
        self.follow()
        return kinds.item(), instances.item(), imitation.item()

    def views(self, rows, size, generator):
        """Two of each picture, standardised: one as it is, of the other a part may be another's.

        With them the order of the others, and the share of its own in each. The second is as
        large as a teacher must have it.
        """
        options = self.options
        pixels = torch.from_numpy(self.pixels[rows]).to(self.device)
        # channels first in memory too: the warp is faster so
        pictures = pixels.permute(0, 3, 1, 2).contiguous().float().div_(255)
        how = options.smallest, options.turn, options.tint, options.largest
        clean = view(pictures, size, generator, *how)
        other = view(pictures, max(size, SIZE) if self.teacher else size, generator, *how)
        order, share = torch.arange(len(rows), device=self.device), 1.0
        draw = torch.rand(1, generator=generator, device=self.device).item()
        if draw < options.mix:
            other, order, share = cut_and_mix(other, generator)
        return standardised(clean), standardised(other), order, share

    @torch.no_grad()
    def follow(self):
        """Move the average towards the weights; early on it follows closely."""
        past = min(self.options.average, self.step / (self.step + 20))
        move(self.average, self.learner.state_dict(), 1 - past)

    def measure(self):
        """Print the averaged network's figures on the validation part."""

        def vectors_of(rows):
            return vectors(self.average, self.tested, rows, self.device)

        found = validation_figures(vectors_of, self.pictures_with_all_kinds())
        self.history.append({"epoch": self.epoch, **found})
        print(f"  validation P@1 at {mini.INPUT_SIZE} px: {in_words(found)}", flush=True)

    def write(self, file):
        """The averaged network, with its last layer fitted, as the file that ships."""
        result = self.mixed()
        self.save(result)  # where a run that starts from this one begins
        labels = self.labels[self.rows].numpy()
        network = finished(result, self.tested, self.rows, labels, self.device)
        store(network, file)
        print(f"wrote {file} ({file.stat().st_size / 1e6:.2f} MB)")

    def mixed(self):
        """The averaged network, on its way back to where the run started by a `keep` of it.

        Between two minima of one valley is a wider one (Izmailov et al., 2018).
        """
        if not self.options.keep:
            return self.average
        network = copy.deepcopy(self.average)
        move(network, self.result_of(self.options.start), self.options.keep)
        return network

    def pictures_with_all_kinds(self):
        if not self.options.hide:
            return self.pictures
        pictures = read_tables(self.options.pictures)
        leave_out(pictures, self.options.leave_out)
        return pictures


@torch.no_grad()
def move(network, weights, share):
    """Move a network's weights by a `share` of the way to others, in place."""
    mine = network.state_dict()
    for name, value in weights.items():
        if value.is_floating_point():
            mine[name].lerp_(value, share)
        else:
            mine[name].copy_(value)


if __name__ == "__main__":
    main()
