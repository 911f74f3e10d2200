#!/bin/bash
# hold.sh FOLDER: serve the mapfile in FOLDER from the next request on, or say why not.
set -Eeuo pipefail

RUN=/run/gislab

[[ -f $1/gis.map ]] || { echo "there is no gis.map in it" >&2; exit 1; }
sed -i "s|@HERE@|$1|g" "$1/gis.map"
# no layer is on, so this reads the file and nothing else
said=$(map2img -m "$1/gis.map" -o /dev/null -i png 2>&1) && [[ "$said" != *msLoadMap* ]] \
    || { tr '\n' ' ' <<< "${said//<br>/}" >&2; exit 1; }
# Each request reads the mapfile anew, and the name is changed in one step: a map is drawn by the
# old one or by the new one. The old folder stays for those that are being drawn.
old=$(readlink $RUN/current || true)
ln -sfn "$1" $RUN/next
mv -T $RUN/next $RUN/current
for folder in $RUN/catalog/*; do
    [[ "$folder" == "$1" || "$folder" == "$old" ]] || rm -rf "$folder"
done
