#!/bin/bash
# What runs in the Ray containers of deploy/kubernetes/plane-ray: Ray's own command, started
# again whenever it ends, so that the loss of a raylet or of the head takes no replica along. Those
# are in sessions of their own here; a container whose main process ends would take them all.
#
# On SIGTERM Ray goes first, so that nothing new starts here, then the replicas, each with its
# requests finished.
set -u
export PATH="/opt/skerry/bin:$PATH"
# Of this plane alone: below its data directory.
replicas="workload_plane[.]replica_host[.]main --spec ${SKERRY_DATA_DIR:-/var/lib/skerry}/"
ray=

end() {
    trap '' TERM INT
    if [ -n "$ray" ]; then
        kill -TERM "$ray" 2>/dev/null
        wait "$ray"
    fi
    pkill -TERM -f "$replicas"
    # 300 looks: 150 s, what a Pod is given at its end.
    for _ in $(seq 300); do
        pgrep -f "$replicas" >/dev/null || break
        sleep 0.5
    done
    exit 0
}
trap end TERM INT

ulimit -n 1048576 2>/dev/null || true
while :; do
    # The operator's command is text for a shell: labels and resources in it are quoted.
    (eval "exec ${KUBERAY_GEN_RAY_START_CMD:?is set by KubeRay with ray.io/overwrite-container-cmd}") &
    ray=$!
    wait "$ray"
    echo "ray-node: Ray ended with $?; it is started again" >&2
    sleep 1 &
    wait $!
done
