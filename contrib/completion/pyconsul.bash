# bash completion of pyconsul; made by contrib/completions.py
_pyconsul() {
    local cur=${COMP_WORDS[COMP_CWORD]} path= word i words= flags=
    # The command: the longest run of words that name one.
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case "${path:+$path }$word" in
            "agent" | \
                "catalog" | \
                "catalog datacenters" | \
                "catalog nodes" | \
                "catalog services" | \
                "config" | \
                "config delete" | \
                "config list" | \
                "config read" | \
                "config write" | \
                "debug" | \
                "event" | \
                "exec" | \
                "force-leave" | \
                "info" | \
                "join" | \
                "keygen" | \
                "keyring" | \
                "kv" | \
                "kv delete" | \
                "kv export" | \
                "kv get" | \
                "kv import" | \
                "kv put" | \
                "leave" | \
                "lock" | \
                "maint" | \
                "members" | \
                "monitor" | \
                "operator" | \
                "operator autopilot" | \
                "operator autopilot get-config" | \
                "operator autopilot set-config" | \
                "operator autopilot state" | \
                "operator raft" | \
                "operator raft list-peers" | \
                "operator raft remove-peer" | \
                "operator raft transfer-leader" | \
                "operator usage" | \
                "operator usage instances" | \
                "reload" | \
                "rtt" | \
                "services" | \
                "services deregister" | \
                "services register" | \
                "snapshot" | \
                "snapshot decode" | \
                "snapshot inspect" | \
                "snapshot restore" | \
                "snapshot save" | \
                "tls" | \
                "tls ca" | \
                "tls ca create" | \
                "tls cert" | \
                "tls cert create" | \
                "validate" | \
                "version" | \
                "watch") path=${path:+$path }$word ;;
            *) [[ $word == -* && -n $path ]] || break ;;
        esac
    done
    COMPREPLY=()
    case "$path" in
        "") words="agent catalog config debug event exec force-leave info join keygen keyring kv leave lock maint members monitor operator reload rtt services snapshot tls validate version watch" ;;
        "catalog") words="datacenters nodes services" ;;
        "config") words="delete list read write" ;;
        "kv") words="delete export get import put" ;;
        "operator") words="autopilot raft usage" ;;
        "operator autopilot") words="get-config set-config state" ;;
        "operator raft") words="list-peers remove-peer transfer-leader" ;;
        "operator usage") words="instances" ;;
        "services") words="deregister register" ;;
        "snapshot") words="decode inspect restore save" ;;
        "tls") words="ca cert" ;;
        "tls ca") words="create" ;;
        "tls cert") words="create" ;;
        "agent") flags="-advertise -advertise-wan -allow-write-http-from -alt-domain -auto-reload-config -bind -bootstrap -bootstrap-expect -check_output_max_size -client -config-dir -config-file -config-format -data-dir -datacenter -default-query-time -dev -disable-host-node-id -disable-keyring-file -dns-port -domain -enable-local-script-checks -enable-script-checks -encrypt -grpc-port -grpc-tls-port -hcl -http-port -https-port -join -join-wan -log-file -log-json -log-level -log-rotate-bytes -log-rotate-duration -log-rotate-max-files -max-query-time -node -node-id -node-meta -non-voting-server -pid-file -primary-gateway -protocol -raft-protocol -read-replica -recursor -rejoin -retry-interval -retry-interval-wan -retry-join -retry-join-wan -retry-max -retry-max-wan -segment -serf-lan-allowed-cidrs -serf-lan-bind -serf-lan-port -serf-wan-allowed-cidrs -serf-wan-bind -serf-wan-port -server -server-port -syslog -ui -ui-content-path -ui-dir -help" ;;
        "catalog datacenters") flags="-ca-file -ca-path -client-cert -client-key -datacenter -http-addr -stale -tls-server-name -token -token-file -help" ;;
        "catalog nodes") flags="-ca-file -ca-path -client-cert -client-key -datacenter -detailed -filter -http-addr -near -node-meta -service -stale -tls-server-name -token -token-file -help" ;;
        "catalog services") flags="-ca-file -ca-path -client-cert -client-key -datacenter -http-addr -namespace -node -node-meta -stale -tags -tls-server-name -token -token-file -help" ;;
        "config delete") flags="-ca-file -ca-path -client-cert -client-key -datacenter -filename -http-addr -kind -name -namespace -stale -tls-server-name -token -token-file -help" ;;
        "config list") flags="-ca-file -ca-path -client-cert -client-key -datacenter -http-addr -kind -namespace -stale -tls-server-name -token -token-file -help" ;;
        "config read") flags="-ca-file -ca-path -client-cert -client-key -datacenter -http-addr -kind -name -namespace -stale -tls-server-name -token -token-file -help" ;;
        "config write") flags="-ca-file -ca-path -cas -client-cert -client-key -datacenter -http-addr -modify-index -namespace -stale -tls-server-name -token -token-file -help" ;;
        "debug") flags="-archive -ca-file -ca-path -capture -client-cert -client-key -duration -http-addr -interval -output -tls-server-name -token -token-file -help" ;;
        "event") flags="-ca-file -ca-path -client-cert -client-key -datacenter -http-addr -name -node -service -stale -tag -tls-server-name -token -token-file -help" ;;
        "exec") flags="-ca-file -ca-path -client-cert -client-key -datacenter -http-addr -node -prefix -service -shell -stale -tag -tls-server-name -token -token-file -verbose -wait -wait-repl -help" ;;
        "force-leave") flags="-ca-file -ca-path -client-cert -client-key -http-addr -prune -tls-server-name -token -token-file -help" ;;
        "info") flags="-ca-file -ca-path -client-cert -client-key -http-addr -tls-server-name -token -token-file -help" ;;
        "join") flags="-ca-file -ca-path -client-cert -client-key -http-addr -tls-server-name -token -token-file -wan -help" ;;
        "keygen") flags="-help" ;;
        "keyring") flags="-ca-file -ca-path -client-cert -client-key -http-addr -install -list -list-primary -local-only -relay-factor -remove -tls-server-name -token -token-file -use -help" ;;
        "kv delete") flags="-ca-file -ca-path -cas -client-cert -client-key -datacenter -http-addr -modify-index -namespace -recurse -stale -tls-server-name -token -token-file -help" ;;
        "kv export") flags="-ca-file -ca-path -client-cert -client-key -datacenter -http-addr -namespace -stale -tls-server-name -token -token-file -help" ;;
        "kv get") flags="-base64 -ca-file -ca-path -client-cert -client-key -datacenter -detailed -http-addr -keys -namespace -recurse -separator -stale -tls-server-name -token -token-file -help" ;;
        "kv import") flags="-ca-file -ca-path -client-cert -client-key -datacenter -http-addr -namespace -prefix -stale -tls-server-name -token -token-file -help" ;;
        "kv put") flags="-acquire -base64 -ca-file -ca-path -cas -client-cert -client-key -datacenter -flags -http-addr -modify-index -namespace -release -session -stale -tls-server-name -token -token-file -help" ;;
        "leave") flags="-ca-file -ca-path -client-cert -client-key -http-addr -tls-server-name -token -token-file -help" ;;
        "lock") flags="-ca-file -ca-path -child-exit-code -client-cert -client-key -datacenter -http-addr -monitor-retry -n -name -pass-stdin -shell -stale -timeout -tls-server-name -token -token-file -try -verbose -help" ;;
        "maint") flags="-ca-file -ca-path -client-cert -client-key -disable -enable -http-addr -reason -service -tls-server-name -token -token-file -help" ;;
        "members") flags="-ca-file -ca-path -client-cert -client-key -detailed -filter -http-addr -segment -status -tls-server-name -token -token-file -wan -help" ;;
        "monitor") flags="-ca-file -ca-path -client-cert -client-key -http-addr -log-json -log-level -tls-server-name -token -token-file -help" ;;
        "operator autopilot get-config") flags="-ca-file -ca-path -client-cert -client-key -datacenter -http-addr -stale -tls-server-name -token -token-file -help" ;;
        "operator autopilot set-config") flags="-ca-file -ca-path -cleanup-dead-servers -client-cert -client-key -datacenter -disable-upgrade-migration -http-addr -last-contact-threshold -max-trailing-logs -min-quorum -redundancy-zone-tag -server-stabilization-time -stale -tls-server-name -token -token-file -upgrade-version-tag -help" ;;
        "operator autopilot state") flags="-ca-file -ca-path -client-cert -client-key -datacenter -format -http-addr -stale -tls-server-name -token -token-file -help" ;;
        "operator raft list-peers") flags="-ca-file -ca-path -client-cert -client-key -datacenter -http-addr -stale -tls-server-name -token -token-file -help" ;;
        "operator raft remove-peer") flags="-address -ca-file -ca-path -client-cert -client-key -datacenter -http-addr -id -stale -tls-server-name -token -token-file -help" ;;
        "operator raft transfer-leader") flags="-ca-file -ca-path -client-cert -client-key -datacenter -http-addr -id -stale -tls-server-name -token -token-file -help" ;;
        "operator usage instances") flags="-all-datacenters -billable -ca-file -ca-path -client-cert -client-key -connect -datacenter -http-addr -stale -tls-server-name -token -token-file -help" ;;
        "reload") flags="-ca-file -ca-path -client-cert -client-key -http-addr -tls-server-name -token -token-file -help" ;;
        "rtt") flags="-ca-file -ca-path -client-cert -client-key -http-addr -tls-server-name -token -token-file -wan -help" ;;
        "services deregister") flags="-ca-file -ca-path -client-cert -client-key -datacenter -http-addr -id -namespace -stale -tls-server-name -token -token-file -help" ;;
        "services register") flags="-address -ca-file -ca-path -client-cert -client-key -datacenter -http-addr -id -kind -meta -name -namespace -port -socket -stale -tag -tagged-address -tls-server-name -token -token-file -help" ;;
        "snapshot decode") flags="-help" ;;
        "snapshot inspect") flags="-format -kvdepth -kvdetails -kvfilter -help" ;;
        "snapshot restore") flags="-ca-file -ca-path -client-cert -client-key -datacenter -http-addr -stale -tls-server-name -token -token-file -help" ;;
        "snapshot save") flags="-append-filename -ca-file -ca-path -client-cert -client-key -datacenter -http-addr -stale -tls-server-name -token -token-file -help" ;;
        "tls ca create") flags="-additional-name-constraint -cluster-id -common-name -days -domain -name-constraint -help" ;;
        "tls cert create") flags="-additional-dnsname -additional-ipaddress -ca -cli -client -days -dc -domain -key -node -server -help" ;;
        "validate") flags="-config-dir -config-file -config-format -quiet -help" ;;
        "version") flags="-format -help" ;;
        "watch") flags="-ca-file -ca-path -client-cert -client-key -datacenter -debounce -diff -file -filter -format -handler-timeout -http-addr -http-handler -key -name -on-error -once -output -parallel -passingonly -poll-interval -prefix -query -service -shell -skip-first -stale -state -state-file -tag -tls-server-name -token -token-file -type -help" ;;
    esac
    if [[ -n $words ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
    elif [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$cur"))
    fi
}
complete -o default -F _pyconsul pyconsul
