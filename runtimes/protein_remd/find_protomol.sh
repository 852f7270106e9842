#!/bin/sh
# Puts the ProtoMol executable that a build was given into /opt/protomol, or nothing if it was given none.
# Arguments: the given file, or this image's requirements.txt for none; the image below /protomol; the image that stands
# for none; the path of ProtoMol in the first.
set -eu
file=$1 image=$2 none=$3 path=$4

refuse() {
    echo "fanfold: $1" >&2
    exit 1
}

mkdir -p /opt/protomol
if [ "${file##*/}" != requirements.txt ]; then
    [ "$image" = "$none" ] || refuse "PROTOMOL_FILE and PROTOMOL_IMAGE are both given; give one of them"
elif [ "$image" != "$none" ]; then
    file=/protomol$path
    [ -f "$file" ] || refuse "the image $image has no file $path; PROTOMOL_PATH says where its ProtoMol is"
else
    exit 0
fi
[ -s "$file" ] || refuse "the file that was given as ProtoMol is empty"
cp -L "$file" /opt/protomol/ProtoMol
chmod 0755 /opt/protomol/ProtoMol
missing=$(ldd /opt/protomol/ProtoMol 2>/dev/null | sed -n 's/ => not found.*//p' | tr -d '\t' | tr '\n' ' ')
[ -z "$missing" ] || refuse "ProtoMol needs shared libraries that the image lacks: ${missing}- link it statically"
