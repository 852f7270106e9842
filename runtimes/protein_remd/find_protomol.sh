#!/bin/sh
# Puts the ProtoMol executable that a build was given into /opt/protomol, or nothing if it was given none.
# Arguments: the given file, or this image's requirements.txt for none; the file copied from the given image; that image;
# the image that stands for none; the path of ProtoMol in the first.
set -eu
file=$1 copied=$2 image=$3 none=$4 path=$5

refuse() {
    echo "fanfold: $1" >&2
    exit 1
}

processor() {
    od -An -tx1 -j18 -N2 "$1"
}

mkdir -p /opt/protomol
if [ "${file##*/}" != requirements.txt ]; then
    [ "$image" = "$none" ] || refuse "PROTOMOL_FILE and PROTOMOL_IMAGE are both given; give one of them"
elif [ "$image" != "$none" ]; then
    file=$copied
    [ -f "$file" ] || refuse "the image $image has no file $path; PROTOMOL_PATH says where its ProtoMol is"
else
    exit 0
fi
[ -s "$file" ] || refuse "the file that was given as ProtoMol is empty"
cp "$file" /opt/protomol/ProtoMol
chmod 0755 /opt/protomol/ProtoMol
case $(head -c 4 "$file" | tr -d '\0') in
    "$(printf '\177ELF')") ;;
    '#!'*) exit 0 ;;
    *) refuse "what was given as ProtoMol is no Linux program, and no script that begins with #!" ;;
esac
[ "$(processor "$file")" = "$(processor /bin/sh)" ] || refuse "ProtoMol is built for another processor than the image"
missing=$(ldd /opt/protomol/ProtoMol 2>&1 \
    | sed -n -e 's/^[[:space:]]*\(.*\) => not found.*/\1/p' -e "s/.*version \`\(.*\)' not found.*/\1/p" | sort -u | tr '\n' ' ')
[ -z "$missing" ] || refuse "ProtoMol needs shared libraries that the image lacks: ${missing}- link it statically"
