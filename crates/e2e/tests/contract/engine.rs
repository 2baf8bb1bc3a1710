//! A privileged Pod is as good as a machine: an image is built in it and run by an engine of its own, and its filters take
//! what the networks of engines ask of them.

use anyhow::{Context, Result, ensure};
use e2e::Lab;

const MANIFEST: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: engine}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: test/engine:1
    command: ["sleep", "1000000"]
    securityContext: {privileged: true}
    resources: {limits: {memory: 600Mi}}
    # Layers of images lie on a file system that an overlay may stand on.
    volumeMounts: [{name: store, mountPath: /var/lib/containers}]
  volumes:
  - {name: store, emptyDir: {}}
"#;

/// What the rules of Docker, CNI plug-ins and kube-proxy are made of.
const FILTERS: &str = r#"set -e
for tables in iptables-nft iptables-legacy ip6tables-nft ip6tables-legacy; do
  $tables -t nat -N ENGINE
  $tables -t nat -A POSTROUTING ! -o docker0 -j MASQUERADE
  $tables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j ENGINE
  $tables -t nat -A ENGINE -p tcp --dport 80 -j DNAT --to-destination :81
  $tables -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
  $tables -A FORWARD -m comment --comment words -m mark --mark 1 -j DROP
  $tables -A FORWARD -p tcp -m multiport --dports 1,2 -j DROP
  $tables -A FORWARD -j LOG --log-prefix seen
  $tables -A FORWARD -j REJECT
  $tables -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
  $tables -t raw -A PREROUTING -p udp -j ACCEPT
  for table in nat filter mangle raw; do $tables -t $table -F; done
done
nft add table ip engine
nft add chain ip engine pre '{ type nat hook prerouting priority -100; }'
nft add rule ip engine pre tcp dport 80 dnat to 10.9.0.2:80
nft add rule ip engine pre fib daddr type local counter accept
nft add rule ip engine pre log prefix seen
nft add rule ip engine pre dnat to numgen inc mod 2 map '{ 0 : 10.9.0.2, 1 : 10.9.0.3 }'
nft add rule ip engine pre dnat to jhash ip saddr mod 2 map '{ 0 : 10.9.0.2, 1 : 10.9.0.3 }'
nft delete table ip engine
echo filters"#;

/// A `Containerfile` whose step runs in a container of its own, and the result run once more.
const BUILD: &str = r#"set -e
test -c /dev/fuse && test -c /dev/net/tun && test -c /dev/loop-control
mkdir /build && cp /bin/busybox /build/sh && cd /build
printf 'FROM scratch\nCOPY sh /bin/sh\nRUN echo made in a container > /made\n' > Containerfile
printf '[network]\nnetwork_backend="netavark"\n' > /etc/containers/containers.conf
ln -s xtables-nft-multi /usr/sbin/iptables && ln -s xtables-nft-multi /usr/sbin/ip6tables
buildah --storage-driver overlay bud --isolation oci --runtime crun --quiet --tag built . >&2
container=$(buildah --storage-driver overlay from localhost/built)
buildah --storage-driver overlay run --isolation oci --runtime crun $container sh -c 'read words < /made; echo $words; echo process $$'"#;

/// Plays both on a Lab.
pub fn all(lab: &Lab) -> Result<()> {
    lab.apply(MANIFEST)?;
    lab.kubectl(&["wait", "--for=condition=Ready", "pod/engine", "--timeout=120s"])
        .with_context(|| lab.kubectl(&["describe", "pod", "engine"]).unwrap_or_default())?;
    let run = |script| lab.kubectl(&["exec", "engine", "--", "sh", "-c", script]);
    let filters = run(FILTERS)?;
    ensure!(filters == "filters\n", "the filters said: {filters}");
    let built = run(BUILD)?;
    ensure!(
        built == "made in a container\nprocess 1\n",
        "the build said: {built}"
    );
    lab.kubectl(&["delete", "pod", "engine", "--timeout=60s"])?;
    Ok(())
}
