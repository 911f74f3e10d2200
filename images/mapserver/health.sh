#!/bin/bash
# Does the server answer, and hold a catalog? HAProxy asks more: does a feature come (/health)?
exec 3<>/dev/tcp/127.0.0.1/8080 || exit 1
printf 'GET /catalog HTTP/1.0\r\n\r\n' >&3
IFS= read -rt 2 answer <&3 && [[ "$answer" == *" 200 "* ]]
