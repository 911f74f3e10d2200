#!/bin/bash
# What the proxies ask as well: does a feature come out of the database?
exec 3<>/dev/tcp/127.0.0.1/8080 || exit 1
printf 'GET /health HTTP/1.0\r\n\r\n' >&3
IFS= read -rt 2 answer <&3 && [[ "$answer" == *" 200 "* ]]
