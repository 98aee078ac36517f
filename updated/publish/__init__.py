"""The publisher's side: images into chunks and blobs, and a repository whose every file is signed or pinned."""
