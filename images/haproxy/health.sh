#!/bin/bash
# Does the process answer a client? (no program is started: bash opens the connection)
exec 3<>/dev/tcp/127.0.0.1/8404 || exit 1
printf 'GET /health HTTP/1.0\r\n\r\n' >&3
IFS= read -rt 2 answer <&3 && [[ "$answer" == *" 200 "* ]]
