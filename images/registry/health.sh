#!/bin/bash
# Does the registry reach its storage? It says so on a port of the container's own.
exec 3<>/dev/tcp/127.0.0.1/5001 || exit 1
printf 'GET /debug/health HTTP/1.0\r\n\r\n' >&3
IFS= read -rt 2 answer <&3 && [[ "$answer" == *" 200 "* ]]
