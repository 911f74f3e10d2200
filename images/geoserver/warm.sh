#!/bin/bash
# The first map loads hundreds of classes, and the first feature connects to the database: nobody
# shall wait for that but us.
for question in \
    "service=WMS&version=1.3.0&request=GetMap&layers=alive&styles=&crs=CRS:84&$(
        )bbox=-9,-9,9,9&width=64&height=64&format=image/png" \
    "service=WFS&version=2.0.0&request=GetFeature&typeNames=alive&count=1&$(
        )outputFormat=application/json"; do
    curl -s -m 30 -o /dev/null "http://127.0.0.1:8080/ows?$question" || true
done
