#!/bin/bash
# Wait for the names of the map servers, which HAProxy looks up once, when it starts.
# In 2016 it was `sleep 180` (images/arm-haproxy/Dockerfile:33): three minutes, enough or not.
set -Eeuo pipefail

until getent hosts mapserver1 && getent hosts mapserver2 && getent hosts mapserver3; do
    sleep 1
done > /dev/null
exec haproxy -db -q -f /etc/haproxy/haproxy.cfg
