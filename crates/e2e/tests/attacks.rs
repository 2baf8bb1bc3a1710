//! What a hostile Pod tries from inside its VM, as root with every privilege, and what it gets: nothing that is another's.
//!
//! One Lab and two VMs serve all attempts; each section stands for itself.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::machines::{cpu_seconds, resident_kib};
use e2e::pods::LIMIT;
use e2e::{Lab, LabOptions, wait_for};
use serde_json::Value;

const PODS: &str = r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: shared}
spec:
  accessModes: [ReadWriteMany]
  resources: {requests: {storage: 64Mi}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: raw}
spec:
  accessModes: [ReadWriteOnce]
  volumeMode: Block
  resources: {requests: {storage: 32Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: hostile}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'while [ ! -e /flood ]; do sleep 1; done; yes "a line of no use to anybody"']
    securityContext: {privileged: true}
    resources: {requests: {cpu: 100m}, limits: {cpu: '1', memory: 96Mi}}
    volumeMounts: [{name: node, mountPath: /node}, {name: shared, mountPath: /shared}]
  - name: plain
    image: busybox
    command: [sleep, '1000000']
    resources: {requests: {cpu: 10m}, limits: {memory: 32Mi}}
    volumeDevices: [{name: raw, devicePath: /dev/raw}]
  volumes:
  - {name: node, hostPath: {path: /}}
  - {name: shared, persistentVolumeClaim: {claimName: shared}}
  - {name: raw, persistentVolumeClaim: {claimName: raw}}
---
apiVersion: v1
kind: Pod
metadata: {name: victim}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'mkdir /www; echo precious > /www/index.html; exec httpd -f -p 8080 -h /www']
    resources: {requests: {cpu: 100m}, limits: {cpu: '1', memory: 96Mi}}
"#;

const GREEDY: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  hostPID: true
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sleep, '1000000']
    securityContext: {privileged: true}
    resources: {requests: {cpu: 100m}, limits: {cpu: 500m, memory: 64Mi}}
"#;

/// Leaves the container's cgroup for that of the whole guest, with all it can do.
const LEAVE: &str = "
for i in 1 2; do
  sh -c 'echo $$ > /proc/1/root/sys/fs/cgroup/cgroup.procs; while :; do :; done' > /dev/null 2>&1 &
done
sleep 1
cat /proc/$!/cgroup";

/// An address of no Pod.
const NOBODY: &str = "10.244.9.9";
/// How long the flood lasts.
const FLOOD: Duration = Duration::from_secs(5);
/// How long the victim may take to answer meanwhile, on two cores that emulate everything.
const PATIENCE: Duration = Duration::from_secs(10);
/// By how much the agent may grow meanwhile. It keeps a bounded part of every stream.
const GROWTH_KIB: u64 = 96 << 10;
/// What the log of one container may hold: five files, each a little over its 10 MiB.
const LOG_BYTES: u64 = 56 << 20;

struct Scene {
    lab: Lab,
    hostile: Value,
    victim: Value,
    host: String,
}

fn ip(pod: &Value) -> Result<&str> {
    pod["status"]["podIP"].as_str().context("a Pod has an address")
}

#[test]
fn a_hostile_pod_harms_only_itself() -> Result<()> {
    let lab = Lab::start(LabOptions::default())?;
    let before = lab.untouched()?;
    lab.apply(PODS)?;
    let (hostile, victim) = (lab.wait_ready("hostile")?, lab.wait_ready("victim")?);
    let host = hostile["status"]["hostIP"].as_str().context("a host")?.to_owned();
    let scene = Scene {
        lab,
        hostile,
        victim,
        host,
    };
    scene.processes_are_confined()?;
    scene.no_more_time_or_memory_than_agreed()?;
    scene.servers_are_confined()?;
    scene.only_its_own_disks()?;
    scene.only_the_devices_of_its_container()?;
    scene.only_files_of_a_share("/node")?;
    scene.only_files_of_a_share("/shared")?;
    scene.no_private_port()?;
    scene.no_other_link_local_address()?;
    scene.no_foreign_name()?;
    scene.floods_stay_at_home()?;
    scene.loopback_is_not_routed()?;
    scene.its_token_dies_with_it()?;
    scene.lab.kubectl(&["delete", "pvc", "--all", "--timeout=60s"])?;
    scene.lab.leaves_nothing(&before)?;
    scene.lab.stop()
}

impl Scene {
    /// A script in the hostile Pod, whatever its exit status.
    fn attack(&self, script: &str) -> Result<String> {
        self.lab.script("hostile", &format!("{{ {script}\n}} 2>&1; true"))
    }

    /// It leaves its container's cgroup in the guest and takes all the time there is; the host holds the whole VM to its
    /// limit, with a quarter of a CPU for the VM itself. Its memory ends where the VM's does.
    fn no_more_time_or_memory_than_agreed(&self) -> Result<()> {
        self.lab.apply(GREEDY)?;
        let pid = self.lab.vm_process(&self.lab.wait_ready("greedy")?)?;
        let machines = self.lab.machines()?;
        let machine = machines.iter().find(|machine| machine.pid == pid);
        let machine = machine.context("its VM")?;
        let quota = machine.limit("cpu.max", "cpu.cfs_quota_us")?;
        ensure!(quota.split(' ').next() == Some("75000"), "a period has {quota}");
        // What it asks for is its weight beside others: 100m of 1000, or of 1024.
        let weight = machine.limit("cpu.weight", "cpu.shares")?;
        let expected = if quota.contains(' ') { "10" } else { "102" };
        ensure!(weight == expected, "its weight is {weight}");
        let memory: u64 = machine.limit("memory.max", "memory.limit_in_bytes")?.parse()?;
        let guest = machine.memory_mib().context("a VM has memory")? << 20;
        ensure!(
            (guest..guest + (256 << 20)).contains(&memory),
            "{memory} bytes for a guest with {guest}"
        );
        let throttled = || -> Result<u64> {
            let text = machine.limit("cpu.stat", "cpu.stat")?;
            let line = text.lines().find_map(|line| line.strip_prefix("nr_throttled "));
            Ok(line.context("a count")?.parse()?)
        };
        let before = (throttled()?, cpu_seconds(pid)?, Instant::now());
        let group = self.lab.script("greedy", LEAVE)?;
        ensure!(
            group.trim() == "0::/..",
            "seen from its container's cgroup it is in {group}"
        );
        wait_for("the host to hold it back", LIMIT, || {
            ensure!(throttled()? > before.0 + 5, "it takes what it wants");
            Ok(())
        })?;
        let share = (cpu_seconds(pid)? - before.1) / before.2.elapsed().as_secs_f64();
        ensure!(share < 0.85, "it took {share:.2} of a CPU");
        self.lab
            .kubectl(&["delete", "pod", "greedy", "--now", "--timeout=60s"])?;
        Ok(())
    }

    /// What a QEMU that was taken over would have: no capability, no way to any, no file but the VM's own.
    fn processes_are_confined(&self) -> Result<()> {
        let machines = self.lab.machines()?;
        ensure!(machines.len() == 2, "{machines:?}");
        ensure!(machines[0].uid != machines[1].uid, "two VMs share a user");
        for machine in &machines {
            let status = fs::read_to_string(format!("/proc/{}/status", machine.pid))?;
            let field = |name: &str| -> Result<String> {
                let line = status.lines().find(|line| line.starts_with(&format!("{name}:")));
                let value = line
                    .and_then(|line| line.split_once(':'))
                    .context(name.to_owned())?
                    .1;
                Ok(value.split_whitespace().collect::<Vec<_>>().join(" "))
            };
            for capabilities in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                ensure!(
                    field(capabilities)?.trim_matches('0').is_empty(),
                    "{capabilities}: {status}"
                );
            }
            ensure!(
                field("NoNewPrivs")? == "1" && field("Seccomp")? == "2",
                "{status}"
            );
            let own = machine.uid.to_string();
            ensure!(
                machine.uid != 0 && field("Uid")? == [own.as_str(); 4].join(" "),
                "{status}"
            );
            ensure!(
                field("Gid")? == [own.as_str(); 4].join(" ") && field("Groups")? == own,
                "{status}"
            );
            let root = fs::read_dir(format!("/proc/{}/root", machine.pid))?;
            ensure!(root.count() == 0, "its root is not empty");
            for apart in ["net", "ipc", "uts"] {
                let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{apart}"));
                let pid = machine.pid.to_string();
                let agent = self.lab.supervisor_id().context("an agent")?.to_string();
                ensure!(
                    namespace(&pid)? != namespace(&agent)?,
                    "{apart} is shared with the agent"
                );
            }
            self.only_known_files(machine.pid)?;
        }
        Ok(())
    }

    /// Every open file of a QEMU is one of its VM, whatever its parent had open.
    fn only_known_files(&self, pid: i32) -> Result<()> {
        let places = [self.lab.run_dir(), self.lab.data_dir().join("host")];
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
            let Ok(target) = fs::read_link(entry.path()) else {
                continue;
            };
            let text = target.display().to_string();
            let known = ["/dev/null", "/dev/net/tun", "socket:", "anon_inode:", "/memfd:"];
            ensure!(
                known.iter().any(|known| text.starts_with(known))
                    || places.iter().any(|place| target.starts_with(place)),
                "a VM's process holds {text} as {}",
                entry.path().display()
            );
        }
        Ok(())
    }

    /// Its image, which all Pods of it share, and its writable disk; the image cannot be written.
    fn only_its_own_disks(&self) -> Result<()> {
        let serials = self.attack("cat /sys/block/sd*/device/vpd_pg80 | tr -c 'a-z0-9' '\\n' | grep .")?;
        let mut serials: Vec<&str> = serials.split_whitespace().collect();
        serials.sort_unstable();
        ensure!(
            serials.len() == 3 && serials[0].starts_with('i') && serials.contains(&"scratch"),
            "its disks: {serials:?}"
        );
        let directory = self.lab.data_dir().join("host/images/disks");
        let contents = || -> Result<Vec<Vec<u8>>> {
            let files = fs::read_dir(&directory)?.flatten();
            files.map(|file| Ok(fs::read(file.path())?)).collect()
        };
        let before = contents()?;
        let written = self.attack(
            "for disk in /sys/block/sd*; do
                grep -q 1 $disk/ro || continue
                mknod /image b $(tr : ' ' < $disk/dev)
                blockdev --setrw /image
                dd if=/dev/zero of=/image bs=4096 count=1 conv=notrunc,fsync && echo written
             done",
        )?;
        ensure!(
            !written.ends_with("written") || contents()? == before,
            "{written}"
        );
        ensure!(contents()? == before, "the shared image has changed: {written}");
        Ok(())
    }

    /// A container without privileges may make a node of any disk of its VM, as it may elsewhere, and open none but its own:
    /// not the disk with the layers of its neighbours, not their claims.
    fn only_the_devices_of_its_container(&self) -> Result<()> {
        let opened = self.lab.kubectl(&[
            "exec",
            "hostile",
            "-c",
            "plain",
            "--",
            "sh",
            "-c",
            "for disk in /sys/block/sd*; do
                name=${disk##*/}; mknod /tmp/$name b $(tr : ' ' < $disk/dev) && echo made
                dd if=/tmp/$name of=/dev/null bs=512 count=1 2>/tmp/why && echo read $(cat $disk/size)
                grep -o 'Operation not permitted' /tmp/why
             done
             echo mine > /dev/raw && head -c 4 /dev/raw",
        ])?;
        let mut lines: Vec<&str> = opened.lines().collect();
        lines.sort_unstable();
        let refused = "Operation not permitted";
        // The claim is the only one of 32 MiB.
        let expected = [refused, refused, "made", "made", "made", "mine", "read 65536"];
        ensure!(lines == expected, "{opened}");
        let all = self.attack(
            "for disk in /sys/block/sd*; do head -c 1 /dev/${disk##*/} > /dev/null && echo read; done",
        )?;
        ensure!(all == "read\nread\nread", "with privileges: {all}");
        Ok(())
    }

    /// The directories that a Pod shares with others are served by processes that may give files their owners, and see
    /// nothing else of the host.
    fn servers_are_confined(&self) -> Result<()> {
        // chown, dac_override, fowner, fsetid, setgid, setuid, mknod, setfcap
        const NEEDED: u64 = 0x8800_00db;
        let pid = self.lab.vm_process(&self.hostile)?;
        let machines = self.lab.machines()?;
        let machine = machines
            .iter()
            .find(|machine| machine.pid == pid)
            .context("its VM")?;
        let parent = self.lab.cgroup_parent();
        let members = machine.members(parent.trim_matches('/'))?;
        let mut serving = 0;
        for server in members.iter().filter(|member| **member != pid) {
            let server = &server.to_string();
            let status = fs::read_to_string(format!("/proc/{server}/status"))?;
            let mask = |name: &str| -> Result<u64> {
                let line = status
                    .lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
                Ok(u64::from_str_radix(line.context(name.to_owned())?, 16)?)
            };
            ensure!(
                mask("CapInh")? == 0 && mask("CapAmb")? == 0 && mask("NoNewPrivs")? == 1,
                "{status}"
            );
            if mask("CapPrm")? == 0 && mask("CapBnd")? == 0 {
                continue;
            }
            serving += 1;
            ensure!(
                (mask("CapPrm")? | mask("CapBnd")?) & !NEEDED == 0 && mask("Seccomp")? == 2,
                "{status}"
            );
            let namespace = |pid: &str, name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}"));
            for name in ["mnt", "pid", "net", "ipc", "uts"] {
                ensure!(
                    namespace(server, name)? != namespace("self", name)?,
                    "{name} is the host's"
                );
            }
            let mounts = fs::read_to_string(format!("/proc/{server}/mountinfo"))?;
            let options = mounts.split(' ').nth(5).unwrap_or_default();
            ensure!(
                mounts.lines().count() == 1 && options.contains("nodev") && options.contains("nosuid"),
                "{mounts}"
            );
        }
        // The node's files, its logs, and the claim.
        ensure!(serving == 3, "{serving} servers: {members:?}");
        Ok(())
    }

    /// What is shared with others is a directory of ours; no path and no link leads out of it.
    fn only_files_of_a_share(&self, share: &str) -> Result<()> {
        let secret = self.lab.directory().join("admin-password");
        let (path, text) = (secret.display(), self.lab.admin_password()?);
        let seen = self.attack(&format!(
            "cd {share}; ln -s {path} link; ln -s ../../admin-password up; ln -s ../../../admin-password more; ln -s /proc/1/root root
             cat {path} {share}{path} ../../admin-password link up more root{path} root/etc/shadow
             cat {share}/.. {share}/../../../admin-password
             chroot {share} cat /../../admin-password {path}
             rm -f link up more root"
        ))?;
        ensure!(!seen.contains(&text), "it has read a file of the host:\n{seen}");
        Ok(())
    }

    /// Of all ports that anybody listens on in the host's network, only the API and DNS answer.
    fn no_private_port(&self) -> Result<()> {
        let sockets = self.lab.run("ss", &["-Hltn"])?;
        let local = |line: &str| line.split_whitespace().nth(3).map(str::to_owned);
        let mut ports: Vec<String> = sockets
            .lines()
            .filter_map(local)
            .filter_map(|address| Some(address.rsplit_once(':')?.1.to_owned()))
            .collect();
        ports.sort();
        ports.dedup();
        ensure!(
            ports.iter().any(|port| port == "10250"),
            "the agent's port is not among {ports:?}"
        );
        let dns = self.attack("grep nameserver /etc/resolv.conf")?;
        let dns = dns.split_whitespace().nth(1).context("a nameserver")?.to_owned();
        let addresses = format!("{} {dns} 169.254.1.1", self.host);
        let ports = ports.join(" ");
        let open = self.attack(&format!(
            "for ip in {addresses}; do for port in {ports}; do
                (nc -w 10 $ip $port < /dev/null > /dev/null 2>&1 && echo $ip:$port) &
             done; done; wait"
        ))?;
        let mut open: Vec<&str> = open.lines().collect();
        open.sort_unstable();
        let mut expected = [format!("{dns}:53"), format!("{}:6443", self.host)];
        expected.sort();
        ensure!(open == expected, "open to a Pod: {open:?}, not {expected:?}");
        // No datagram goes anywhere but to DNS.
        let sockets = self.lab.run("ss", &["-Hlun"])?;
        let others: Vec<String> = sockets
            .lines()
            .filter_map(local)
            .filter(|address| *address != format!("{dns}:53"))
            .collect();
        ensure!(others.is_empty(), "somebody else takes datagrams: {others:?}");
        Ok(())
    }

    /// Neither the gateway's neighbours nor another Pod's own address of the link, IPv4 or IPv6.
    fn no_other_link_local_address(&self) -> Result<()> {
        let six = self
            .lab
            .script("victim", "ip -6 addr show dev eth0 scope link | grep inet6")?;
        let six = six.split_whitespace().nth(1).context("an address")?;
        let six = six.split('/').next().unwrap_or_default().to_owned();
        let own = self.attack("ip -6 addr show dev eth0 scope link | grep inet6")?;
        ensure!(!own.contains(&six), "two Pods have one address of the link");
        let answers = self.attack(&format!(
            "ip route add 169.254.0.0/16 via 169.254.1.1
             for ip in 169.254.169.254 169.254.1.2; do
                (ping -c 1 -W 1 -w 1 $ip > /dev/null && echo $ip) &
                (nc -w 1 $ip 80 < /dev/null && echo $ip:80) &
             done
             (ping6 -c 1 -W 1 -w 1 -I eth0 {six} > /dev/null && echo {six}) &
             ping -c 1 -W 3 -w 3 169.254.1.1 > /dev/null && echo gateway
             wait"
        ))?;
        let answers: Vec<&str> = answers.lines().filter(|line| !line.starts_with("nc:")).collect();
        let heard: Vec<&&str> = answers.iter().filter(|line| !line.contains(' ')).collect();
        ensure!(heard == [&"gateway"], "answers: {answers:?}");
        Ok(())
    }

    /// Packets and ARP in another's name go nowhere.
    fn no_foreign_name(&self) -> Result<()> {
        let victim = ip(&self.victim)?.to_owned();
        let own = ip(&self.hostile)?.to_owned();
        let echoes = || -> Result<u64> {
            let text = self.lab.script("victim", "grep ^Icmp: /proc/net/snmp")?;
            let (names, values) = text.split_once('\n').context("two lines")?;
            let column = names
                .split(' ')
                .position(|name| name == "InEchos")
                .context("InEchos")?;
            Ok(values.split(' ').nth(column).context("a value")?.parse()?)
        };
        let mut count = echoes()?;
        let forged = [NOBODY, &self.host, "203.0.113.7"];
        let sources = forged.join(" ");
        self.attack(&format!(
            "for source in {sources}; do
                ip addr add $source/32 dev eth0
                ping -c 2 -W 1 -w 2 -I $source {victim} &
                arping -c 1 -w 1 -s $source 169.254.1.1 & arping -U -c 1 -s $source $source &
             done; wait
             for source in {sources}; do ip addr del $source/32 dev eth0; done"
        ))?;
        ensure!(echoes()? == count, "the victim has heard somebody else");
        // The victim's own address: the host must neither believe it nor send elsewhere what is the victim's.
        self.attack(&format!(
            "ip addr add {victim}/32 dev eth0
             arping -U -c 1 -s {victim} {victim} & arping -A -c 1 -s {victim} {victim} &
             ping -c 1 -W 1 -w 1 -I {victim} {} & wait; ip addr del {victim}/32 dev eth0",
            self.host
        ))?;
        let mac = self.attack("cat /sys/class/net/eth0/address")?;
        let other = self.lab.script("victim", "cat /sys/class/net/eth0/address")?;
        self.attack(&format!(
            "ip link set eth0 address {other}; ping -c 1 -W 1 -w 1 {victim}; ip link set eth0 address {mac}
             ip route add 169.254.1.1 dev eth0; ip route add default via 169.254.1.1"
        ))?;
        ensure!(
            echoes()? == count,
            "the victim has heard a foreign hardware address"
        );
        let neighbours = self.lab.run("ip", &["neighbour", "show"])?;
        for (address, wanted) in [(own.as_str(), &mac), (victim.as_str(), &other)] {
            for line in neighbours
                .lines()
                .filter(|line| line.starts_with(&format!("{address} ")))
            {
                ensure!(!line.contains("lladdr") || line.contains(wanted), "{neighbours}");
            }
        }
        ensure!(
            !forged.iter().any(|ip| neighbours.contains(&format!("{ip} "))),
            "{neighbours}"
        );
        ensure!(self.ask_victim()?.contains("precious"));
        // And now as itself.
        self.attack(&format!("ping -c 1 -W 5 -w 5 {victim}"))?;
        count += 1;
        ensure!(echoes()? >= count, "an honest packet does not arrive any more");
        Ok(())
    }

    fn ask_victim(&self) -> Result<String> {
        let url = format!("http://{}:8080/", ip(&self.victim)?);
        self.lab.run(
            "curl",
            &["-sSf", "--max-time", &PATIENCE.as_secs().to_string(), &url],
        )
    }

    /// Console, kernel log, container log, an exec's output and the network at full speed: others are served, and the
    /// agent keeps its size.
    fn floods_stay_at_home(&self) -> Result<()> {
        let agent = i32::try_from(self.lab.supervisor_id().context("an agent")?)?;
        let victim = ip(&self.victim)?;
        let before = resident_kib(agent)?;
        // A stream that nobody reads, beside those that are read as fast as they come.
        let mut unread = self.lab.command("kubectl");
        unread.args(["exec", "hostile", "--", "cat", "/dev/zero"]);
        unread
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null());
        let mut unread = unread.spawn()?;
        self.attack(&format!(
            "touch /flood; mknod /console c 4 64
             (cat /dev/zero > /console) > /dev/null 2>&1 &
             (while :; do echo flood > /dev/kmsg; done) > /dev/null 2>&1 &
             (while :; do cat /dev/zero | nc {host} 6443; done) > /dev/null 2>&1 &
             (while :; do cat /dev/zero | nc {victim} 8080; done) > /dev/null 2>&1 &
             (ping -q -A -s 1400 {victim}) > /dev/null 2>&1 &",
            host = self.host
        ))?;
        let (end, mut most, mut asked) = (Instant::now() + FLOOD, before, 0);
        while Instant::now() < end || asked < 5 {
            let since = Instant::now();
            ensure!(self.ask_victim()?.contains("precious"));
            ensure!(
                since.elapsed() < PATIENCE,
                "the victim took {:?}",
                since.elapsed()
            );
            self.lab.kubectl(&["get", "--raw", "/readyz"])?;
            most = most.max(resident_kib(agent)?);
            asked += 1;
        }
        unread.kill()?;
        unread.wait()?;
        println!("agent: {before} KiB before, {most} KiB at most; {asked} answers of the victim");
        ensure!(
            most < before + GROWTH_KIB,
            "the agent grew from {before} to {most} KiB"
        );
        let logs = self.lab.run(
            "du",
            &[
                "-sb",
                &self.lab.data_dir().join("host/logs").display().to_string(),
            ],
        )?;
        let bytes: u64 = logs.split_whitespace().next().unwrap_or_default().parse()?;
        ensure!(bytes < LOG_BYTES, "logs hold {bytes} bytes");
        self.attack("kill $(pidof cat nc ping) 2> /dev/null; for i in 1 2 3; do kill %$i; done")?;
        Ok(())
    }

    /// Packets to 127.0.0.1 that leave the VM reach nothing on the host's loopback (CVE-2020-8558).
    fn loopback_is_not_routed(&self) -> Result<()> {
        let seen = self.attack(
            "ip addr flush dev lo; ip route del table local local 127.0.0.0/8 dev lo
             ip route add 127.0.0.0/8 via 169.254.1.1 dev eth0 onlink
             for port in 5000 6443; do (nc -w 2 127.0.0.1 $port < /dev/null && echo open: $port) & done; wait",
        )?;
        ensure!(!seen.contains("open:"), "{seen}");
        Ok(())
    }

    /// With the Pod its token is gone, long before it expires (KEP-1205).
    fn its_token_dies_with_it(&self) -> Result<()> {
        let token = self.attack("cat /var/run/secrets/kubernetes.io/serviceaccount/token")?;
        let status = || {
            let header = format!("Authorization: Bearer {token}");
            let url = "https://127.0.0.1:6443/api/v1/namespaces/default/pods";
            self.lab.run(
                "curl",
                &["-sk", "-o", "/dev/null", "-w", "%{http_code}", "-H", &header, url],
            )
        };
        let known = status()?;
        ensure!(known == "403", "a token of a living Pod: {known}");
        self.lab.kubectl(&["delete", "pod", "hostile", "--timeout=60s"])?;
        wait_for("the end of the token", LIMIT, || {
            let gone = status()?;
            ensure!(gone == "401", "{gone}");
            Ok(())
        })
    }
}
