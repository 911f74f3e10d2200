#!/bin/bash
# Have a primary without a synchronous replica refuse writes by name, instead of let them wait.
#
# PostgreSQL lets a commit wait for a replica for ever, and so does its client. Five seconds after
# the last synchronous replica has gone, new transactions become read-only: an INSERT ends at once
# with SQLSTATE 25006, and reads go on. What waits already goes on waiting: to end it would be to
# acknowledge it on one Pi alone. The first replica that streams again ends all this.
#
# It is ALTER SYSTEM, since that writes no WAL that would have to wait itself, and Patroni leaves
# postgresql.auto.conf alone. A copy or a rewind brings the file along, so replicas look, too.
# With durability "available" Patroni empties synchronous_standby_names, and nothing is refused.
set -uo pipefail

QUESTION="SELECT 'guard', CASE
        WHEN pg_is_in_recovery() OR current_setting('synchronous_standby_names') = ''
            OR EXISTS (SELECT FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum'))
        THEN 'off' ELSE 'on' END, current_setting('default_transaction_read_only')
    \\watch 0.5"
exec {never}<> <(:)      # reading from it is a sleep without a process

order() {
    psql --no-psqlrc -qtA -d postgres -c "ALTER SYSTEM $1" -c "SELECT pg_reload_conf()" >/dev/null \
        && printf 'guard: %s\n' "$2" >&2
}

while true; do
    looks=0
    while IFS='|' read -r who wanted is; do
        [[ "$who" == guard ]] || continue
        case "$wanted $is" in
            "off off") looks=0 ;;
            "off on")
                looks=0
                order "RESET default_transaction_read_only" "a replica acknowledges: writes go on"
                ;;
            "on off")
                (( ++looks < 10 )) || order "SET default_transaction_read_only = on" \
                    "no replica acknowledges: writes are refused"
                ;;
        esac
    done < <(psql --no-psqlrc -qtA -d postgres <<< "$QUESTION" 2>/dev/null)
    read -rt 1 -u "$never" || true
done
