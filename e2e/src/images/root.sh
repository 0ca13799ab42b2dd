#!/bin/sh
# root.sh BINARY DIRECTORY: makes the root file system of an image of one program: the program without debug symbols at
# /, the libraries that it loads with their loader, users, name resolution, certificates if this machine has them, and
# a /tmp. The Containerfiles and the test clusters make their images with it.
set -eu
binary=$1
root=$2

mkdir -p "$root/etc" "$root/tmp"
printf '%s\n' 'root:x:0:0:root:/:/sbin/nologin' 'nonroot:x:65532:65532:nonroot:/:/sbin/nologin' > "$root/etc/passwd"
printf '%s\n' 'root:x:0:' 'nonroot:x:65532:' > "$root/etc/group"
printf '%s\n' 'hosts: files dns' > "$root/etc/nsswitch.conf"
chmod 1777 "$root/tmp"

certificates=/etc/ssl/certs/ca-certificates.crt
if [ -e "$certificates" ]; then
    install -D -m 644 "$certificates" "$root$certificates"
fi

# `libc.so.6 => /lib/libc.so.6 (0x…)`, and the loader as `/lib64/ld-linux.so.2 (0x…)`; a static program has none.
if libraries=$(ldd "$binary" 2>&1); then
    case $libraries in
    *"not found"*) echo "libraries of $binary are missing: $libraries" >&2; exit 1 ;;
    esac
    printf '%s\n' "$libraries" | grep -o '/[^ ]*' | while read -r library; do
        install -D -m 755 "$library" "$root$library"
    done
else
    case $libraries in
    *"not a dynamic executable"*) ;;
    *) echo "list the libraries of $binary: $libraries" >&2; exit 1 ;;
    esac
fi

program=$root/$(basename "$binary")
# What can't be stripped, or is there no `strip`, goes as it is.
strip --strip-debug -o "$program" "$binary" 2> /dev/null || cp "$binary" "$program"
chmod 755 "$program"
