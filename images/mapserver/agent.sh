#!/bin/bash
# Have this map server hold the version of the catalog that Consul calls current, and report it.
#
#   agent.sh mapserver          needs hold.sh, which makes the server serve the files of a folder
#   agent.sh --in-turn geoserver    only one of all servers changes at a time
#
# A blocking query waits for the next version: Consul answers it at once when one is published
# (developer.hashicorp.com/consul/api-docs/features/blocking). Without Consul the server goes on
# with what it has; a new one waits. The report hangs on a session, and goes when that ends.
set -ufo pipefail # -f: what Consul says is words, no names of files

[[ "$1" != --in-turn ]] || { IN_TURN=yes; shift; }
SERVER=$1
RUN=/run/gislab
MINE=$RUN/agent
ROOT=gislab/maps
ID=${HOSTNAME:0:12}
declare -A DONE=() # errand -> its last number that is done
SEEDING='' SEEDER=''
HELD_VERSION=null HELD_HASH='' SINCE=$(printf '%(%s)T' -1) SESSION='' DUE=yes TOLD='' STATE='' RENEWED=-9

log() { [[ "$1" == "$TOLD" ]] || echo "$SERVER: $1" >&2; TOLD=$1; }

exec {IDLE}<> <(:)
rest() { read -rt "$1" <&$IDLE || true; } # a sleep without a process of its own

# The Consul of this Pi first, then those of the others.
addresses() {
    local pair
    CONSULS=()
    for pair in $NODES; do
        if [[ "${pair%%=*}" == "$NODE_NAME" ]]; then
            CONSULS=("${pair#*=}" "${CONSULS[@]}")
        else
            CONSULS+=("${pair#*=}")
        fi
    done
}

# consul GET kv/... [more words of curl] -> STATUS, INDEX and the file body; false: none answers
consul() {
    local method=$1 path=$2 tried
    shift 2
    for ((tried = 0; tried < ${#CONSULS[@]}; tried++)); do
        # waited for in the background: a signal must not wait for the end of a question
        curl -s -X "$method" -H "@$MINE/token" -o $MINE/body \
            -w '%{http_code} %header{x-consul-index}\n' --connect-timeout 1 --max-time 8 "$@" \
            "http://${CONSULS[0]}:8500/v1/$path" > $MINE/status &
        wait $! && read -r STATUS INDEX < $MINE/status && [[ "$STATUS" != 500 ]] && return 0
        CONSULS=("${CONSULS[@]:1}" "${CONSULS[0]}")
    done
    log "waiting for Consul at ${CONSULS[*]}: none answers"
    return 1
}

# A session of 10 s, which Consul ends 10 to 20 s after it was last renewed.
be_known() {
    [[ -z "$SESSION" ]] || ((SECONDS - RENEWED > 2)) || return 0
    RENEWED=$SECONDS
    if [[ -n "$SESSION" ]] && consul PUT "session/renew/$SESSION" && [[ "$STATUS" == 200 ]]; then
        return 0
    fi
    SESSION='' DUE=yes
    consul PUT session/create -d '{"Node": "gislab-maps", "Name": "'"$NODE_NAME-$ID"'",
        "TTL": "10s", "LockDelay": "0s", "Behavior": "delete", "NodeChecks": [], "Checks": []}' \
        && [[ "$STATUS" == 200 ]] && SESSION=$(tr -d ' \n' < $MINE/body) \
        && SESSION=${SESSION#*\"ID\":\"} && SESSION=${SESSION%%\"*}
}

# report holds|loads|refuses [version] [words]
report() {
    local words=${3:-}
    STATE=$1 WANTED=${2:-null}
    words=$(tr -c '[:alnum:] .,:;()/_<>=+-' ' ' <<< "${words:0:300}")
    SAID=${words% }
    write_report
}

write_report() {
    local what finished='' doing=''
    for what in "${!DONE[@]}"; do finished+=" $what=${DONE[$what]}"; done
    [[ -z "$SEEDING" ]] || doing="$SEEDING $(tail -n 1 $MINE/seeded 2>/dev/null)"
    printf '{"node": "%s", "id": "%s", "server": "%s", "version": %s, "hash": "%s",
        "state": "%s", "wanted": %s, "since": %s, "said": "%s", "done": "%s", "doing": "%s"}\n' \
        "$NODE_NAME" "$ID" "$SERVER" "$HELD_VERSION" "$HELD_HASH" "$STATE" "$WANTED" "$SINCE" \
        "$SAID" "${finished# }" "$doing" > $MINE/report
    tell
}

tell() {
    DUE=yes
    be_known && [[ -n "$SESSION" ]] && consul PUT "kv/$ROOT/reports/$NODE_NAME-$ID?acquire=$SESSION" \
        --data-binary @$MINE/report && [[ "$(<$MINE/body)" == true ]] && DUE='' && return 0
    RENEWED=-9 # the session may have gone
}

# fetch hash parts folder: whole and unchanged, or not at all
fetch() {
    local part
    : > $MINE/bundle.gz
    for ((part = 0; part < $2; part++)); do
        consul GET "kv/$ROOT/parts/$1/$part?raw" && [[ "$STATUS" == 200 ]] || return 1
        cat $MINE/body >> $MINE/bundle.gz
    done
    gzip -dc $MINE/bundle.gz > $MINE/bundle.tar 2>/dev/null
    [[ "$(sha256sum < $MINE/bundle.tar)" == "$1 "* ]] || return 1
    rm -rf "$3" && mkdir -p "$3" && tar -xf $MINE/bundle.tar -C "$3" --strip-components=1 "$SERVER"
}

# Whoever holds this key may change; the others wait for it by a blocking query as well.
in_turn() {
    local index=0
    while true; do
        be_known && consul PUT "kv/$ROOT/reload?acquire=$SESSION" -d "$NODE_NAME-$ID" \
            && [[ "$(<$MINE/body)" == true ]] && return 0
        consul GET "kv/$ROOT/reload?raw&wait=3s&index=$index" && index=${INDEX:-0} || rest 1
    done
}

# take version hash parts
take() {
    local folder=$RUN/catalog/$2 said=0 holder looks=0
    REFUSED=''
    if [[ "$2" == "$HELD_HASH" ]]; then # back to what it holds, or the same under a new number
        HELD_VERSION=$1
        report holds
        return
    fi
    [[ -z "${IN_TURN:-}" ]] || report loads "$1" # takes its time
    fetch "$2" "$3" "$folder" || { report loads "$1" "its parts cannot be read"; rest 1; return 1; }
    [[ -z "${IN_TURN:-}" || -z "$HELD_HASH" ]] || in_turn
    hold.sh "$folder" 2> $MINE/said &
    holder=$!
    while kill -0 $holder 2>/dev/null; do # changing may take longer than a session lasts
        be_known
        if ((looks++ < 40)); then rest 0.05; else rest 0.5; fi
    done
    wait $holder || said=$?
    rm -f $RUN/out # hold.sh has taken it away itself, unless something killed it
    if ((said == 0)); then
        HELD_VERSION=$1 HELD_HASH=$2 SINCE=$(printf '%(%s)T' -1)
        printf '%s' "${2:0:12}" > $MINE/catalog && mv $MINE/catalog $RUN/www/catalog
        log "holds version $1 of the catalog, ${2:0:12}"
        report holds
    else
        REFUSED="$1 $2 $3"
        log "refuses version $1: $(tail -n 1 $MINE/said)"
        report refuses "$1" "$(tail -n 1 $MINE/said)"
        rm -rf "$folder" # memory, in the end
    fi
    [[ -z "${IN_TURN:-}" ]] || consul PUT "kv/$ROOT/reload?release=$SESSION" || true
}

# errands WORD...: what servers are to do to their tiles, each number once. Forgetting is over at
# once; seeding takes minutes and goes on beside all else, one after another.
errands() {
    local word what changed=''
    type -P errand.sh > /dev/null && [[ -n "$HELD_HASH" ]] || return 0
    if [[ -n "$SEEDING" ]]; then
        changed=yes # it is farther than it was
        kill -0 "$SEEDER" 2>/dev/null || { seeded; SEEDING=''; }
    fi
    for word; do
        what=${word%=*}
        [[ "${DONE[$what]:-}" != "${word##*=}" ]] || continue
        case $what in
            forget/*)
                errand.sh "$what" 2> $MINE/said || {
                    log "$what failed: $(tail -n 1 $MINE/said)"
                    return 1
                }
                DONE[$what]=${word##*=} changed=yes ;;
            seed/*)
                [[ -z "$SEEDING" ]] || continue
                SEEDING=$word changed=yes
                errand.sh "$what" > $MINE/seeded 2> $MINE/said &
                SEEDER=$! ;;
        esac
    done
    [[ -z "$changed" ]] || write_report
}

seeded() {
    # not again, whatever came of it: tiles that are missing are drawn when somebody asks
    wait "$SEEDER" || log "$SEEDING failed: $(tail -n 1 $MINE/said)"
    DONE[${SEEDING%=*}]=${SEEDING##*=}
}

leave() {
    [[ -z "$SESSION" ]] || consul PUT "session/destroy/$SESSION"
    exit 0
}

_main() {
    local index=0 current asked patience REFUSED=''
    mkdir -p $MINE $RUN/www
    (umask 077 && printf 'X-Consul-Token: %s' \
        "$(<"${MAP_TOKEN_FILE:-/run/secrets/map_token}")" > $MINE/token)
    addresses
    trap leave TERM INT
    while true; do
        patience=5s
        [[ -z "$SEEDING" ]] || patience=1s # to say how far it is
        consul GET "kv/$ROOT/current?raw&wait=$patience&index=$index" || { index=0; rest 1; continue; }
        # back at zero where Consul's own began anew; without one at all, this would not block
        ((${INDEX:-0} >= index)) && index=${INDEX:-0} || index=0
        ((index > 0)) || rest 1
        case $STATUS in
            # number, hash, parts; behind them the errands
            200) read -r -a asked < $MINE/body; current="${asked[*]:0:3}" ;;
            404) log "waiting: no catalog is published yet"; continue ;;
            *) log "waiting: Consul does not know this token yet ($STATUS)"; rest 1; continue ;;
        esac
        TOLD=''
        [[ "$STATE $current" == "holds $HELD_VERSION $HELD_HASH "* || "$current" == "$REFUSED" ]] \
            || take $current || { index=0; continue; }
        errands "${asked[@]:3}" || { index=0; rest 1; continue; }
        if [[ -n "$DUE" ]]; then tell; else be_known; fi
    done
}

_main
