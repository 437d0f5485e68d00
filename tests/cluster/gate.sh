# shellcheck shell=bash
# When a cluster is fit for tests, and what to print when it is not. Sourced,
# never run.

# shellcheck source=tests/cluster/engine.sh
. "$(dirname "${BASH_SOURCE[0]}")/engine.sh"

in_cluster() { "$cluster_dir/in-cluster" "$@"; }
kubectl() { in_cluster timeout --foreground 150 kubectl --context "kind-$cluster" "$@"; }

# Whether the cluster that was created is still what it was, at a glance.
healthy() {
    local running ready
    running=$(docker ps --filter "label=io.x-k8s.kind.cluster=$cluster" --filter status=running --quiet | wc -l)
    [[ $running == "$nodes" ]] || return 1
    ready=$(kubectl --request-timeout 5s get nodes,deployments --all-namespaces --output \
        'jsonpath={range .items[*]}{.kind}{.status.conditions[?(@.type=="Ready")].status}{.metadata.name}{.status.readyReplicas}{"\n"}{end}') || return 1
    [[ $(grep -c ^NodeTrue <<<"$ready") == "$nodes" ]] && grep -q ^Deploymentcoredns2 <<<"$ready"
}

gate() {
    timed "nodes Ready" kubectl wait nodes --all --for condition=Ready --timeout 120s >/dev/null
    timed "CoreDNS Ready" kubectl --namespace kube-system rollout status deployment/coredns --timeout 120s >/dev/null
    timed "DNS answers in a pod" probe_dns
}

# A pod on a worker resolves a Service's name, by whatever its shell has: busybox
# has nslookup, bash opens a connection.
probe_dns() {
    local name=kubernetes.default.svc.cluster.local selector=
    ((nodes == 1)) || selector="kubernetes.io/hostname: $cluster-worker"
    poll 60 kubectl --namespace default get serviceaccount default >/dev/null 2>&1
    kubectl --namespace default delete pod dns-probe --ignore-not-found --now >/dev/null
    kubectl apply --filename - >/dev/null <<POD
apiVersion: v1
kind: Pod
metadata: {name: dns-probe, namespace: default}
spec:
  restartPolicy: OnFailure
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  nodeSelector: {$selector}
  containers:
  - name: probe
    image: $helper_image
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "if command -v nslookup; then nslookup $name; else exec 3<>/dev/tcp/$name/443; fi"]
POD
    kubectl --namespace default wait pod/dns-probe --for jsonpath='{.status.phase}'=Succeeded --timeout 90s >/dev/null
    kubectl --namespace default delete pod dns-probe --now --wait=false >/dev/null
}

diagnose() {
    local node
    {
        docker ps --all
        kubectl --request-timeout 10s get nodes,pods --all-namespaces --output wide
        kubectl --request-timeout 10s get events --all-namespaces --sort-by .lastTimestamp | tail -n 30
        kubectl --request-timeout 10s --namespace default logs dns-probe
        for node in $(docker ps --filter "label=io.x-k8s.kind.cluster=$cluster" --format '{{.Names}}'); do
            echo "--- $node"
            timeout 20 docker exec "$node" journalctl --no-pager --unit kubelet --lines 20
        done
        tail -n 20 "$engine_log"
    } >&2 2>&1 || true
}
