#!/bin/bash
# Serve the repository of this Pi, and this member's files to the others' backups; for ever.
set -uo pipefail

# A key that others may read is refused by pgBackRest, and Swarm's secrets are root's.
install -m 600 "$BACKUP_IDENTITY_FILE" /run/postgresql/identity.pem
mkdir -p /var/lib/postgresql/spool

# An empty repository, of a new lab or of a Pi with a new card, is made as soon as there is a
# primary to ask. Only then is it served: until then WAL goes to the others.
echo "$MEMBER: the repository of this Pi will be served when it has a stanza" >&2
until [[ -s /var/lib/pgbackrest/backup/gis/backup.info ]]; do
    pgbackrest.sh stanza-create 2>/dev/null || sleep 3
done
# whoever pushes calls it by its number in REPOSITORIES, and the server must know it under that
number=1
for name in $REPOSITORIES; do
    [[ "$name" != "$MEMBER" ]] || export "PGBACKREST_REPO${number}_PATH=/var/lib/pgbackrest"
    number=$((number + 1))
done
while true; do
    pgbackrest server
    echo "$MEMBER: the server of the repository ended; starting it again" >&2
    sleep 1
done
