"""The pages, their JSON, uploads and thumbnails: words in, words out.

Nothing here imports numpy, FAISS, Pillow or torch before it is needed, so that a
server with this plugin starts as fast as one without it.
"""
