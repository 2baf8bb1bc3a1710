//! Services and EndpointSlices of the cluster, followed for two purposes: the host's network, and the variables in
//! containers' environments. With them goes what NetworkPolicies say (`policies`).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use dataplane::Ipv4Net;
use dataplane::model::{
    Endpoint, Guard, HostPort, OnlyHere, Protocol, Service as NetService, ServiceAddress, ServicePort,
};
use dataplane::policy::Policy;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::deps::{NetworkError, PodNetwork};
use crate::{admit, policies};

/// Changes within this time are applied together.
const GATHER: Duration = Duration::from_millis(20);
/// How long a failed application waits before it is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Labels of Services and slices that this proxy leaves alone.
const NOT_OURS: [&str; 2] = [
    "service.kubernetes.io/service-proxy-name",
    "service.kubernetes.io/headless",
];
/// How long a client keeps its endpoint unless the Service says otherwise.
const AFFINITY_SECONDS: u32 = 10_800;
/// The label that says whose slice it is.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The Services at hand.
#[derive(Clone)]
pub struct Services {
    services: Store<Service>,
}

impl Services {
    /// Services of a namespace, and `kubernetes` of `default`, as environments want them.
    pub async fn visible(&self, namespace: &str) -> Vec<Service> {
        // A Pod must not miss variables because the agent has just started; but an API that is away must not hold it.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.services.wait_until_ready()).await;
        let mut found: Vec<Service> = self
            .services
            .state_filter(|service| {
                let ns = service.metadata.namespace.as_deref();
                ns == Some(namespace)
                    || (ns == Some("default") && service.metadata.name.as_deref() == Some("kubernetes"))
            })
            .iter()
            .map(|service| Service::clone(service))
            .collect();
        found.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        found
    }
}

/// Follows Services, slices and policies until cancelled and keeps the network of the node's Pods up to date.
pub fn follow(
    client: &kube::Client,
    node: &str,
    network: Arc<dyn PodNetwork>,
    cancel: CancellationToken,
) -> Services {
    let changed = Arc::new(Changed::default());
    let own = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let world = World {
        services: reflect(client, watcher::Config::default(), own_name, &changed, &cancel),
        slices: reflect(client, watcher::Config::default(), of_service, &changed, &cancel),
        policies: reflect(client, watcher::Config::default(), none, &changed, &cancel),
        namespaces: reflect(client, watcher::Config::default(), none, &changed, &cancel),
        node: node.to_owned(),
        pods: reflect(client, own, none, &changed, &cancel),
    };
    let services = world.services.clone();
    tokio::spawn(apply(world, network, changed, cancel));
    Services { services }
}

/// A Service by namespace and name.
type Key = (String, String);

/// That something has changed, and which Services it concerns.
#[derive(Default)]
struct Changed {
    notify: Notify,
    services: Mutex<Concerned>,
}

/// The Services that are to be translated anew.
#[derive(Default)]
struct Concerned {
    all: bool,
    some: BTreeSet<Key>,
}

fn key(metadata: &ObjectMeta) -> Option<Key> {
    Some((metadata.namespace.clone()?, metadata.name.clone()?))
}

fn own_name(service: &Service) -> Option<Key> {
    key(&service.metadata)
}

fn of_service(slice: &EndpointSlice) -> Option<Key> {
    let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some((slice.metadata.namespace.clone()?, service.clone()))
}

/// Nothing of any Service hangs on it.
fn none<K>(_: &K) -> Option<Key> {
    None
}

/// What the network was told last, and the Services as it is to see them.
#[derive(Default)]
struct Told {
    policies: Option<Vec<Policy>>,
    ports: Option<Vec<HostPort>>,
    services: BTreeMap<Key, NetService>,
    /// The Services differ from what the network was told.
    news: bool,
    started: bool,
}

/// Everything that the network depends on.
struct World {
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    policies: Store<NetworkPolicy>,
    namespaces: Store<Namespace>,
    pods: Store<Pod>,
    node: String,
}

/// All objects of a kind, as long as they are followed.
fn reflect<K>(
    client: &kube::Client,
    config: watcher::Config,
    service: fn(&K) -> Option<Key>,
    changed: &Arc<Changed>,
    cancel: &CancellationToken,
) -> Store<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let stream = watcher::watcher(Api::<K>::all(client.clone()), config)
        .default_backoff()
        .modify(|object| object.meta_mut().managed_fields = None)
        .reflect(writer);
    tokio::spawn(pump(stream, service, Arc::clone(changed), cancel.clone()));
    store
}

async fn pump<K: kube::Resource<DynamicType = ()>>(
    stream: impl futures::Stream<Item = Result<watcher::Event<K>, watcher::Error>>,
    service: fn(&K) -> Option<Key>,
    changed: Arc<Changed>,
    cancel: CancellationToken,
) {
    let mut stream = std::pin::pin!(stream);
    // What is of another name than its Service may become another Service's.
    let mut before: HashMap<Key, Key> = HashMap::new();
    while let Some(Some(event)) = cancel.run_until_cancelled(stream.next()).await {
        match event {
            Ok(event) => {
                {
                    let mut concerned = changed.services.lock();
                    match event {
                        watcher::Event::Apply(object) => {
                            let (own, now) = (key(object.meta()), service(&object));
                            let was = own.as_ref().and_then(|own| before.remove(own));
                            if let (Some(own), Some(now)) = (own, &now)
                                && own != *now
                            {
                                before.insert(own, now.clone());
                            }
                            concerned.some.extend(now.into_iter().chain(was));
                        }
                        watcher::Event::Delete(object) => {
                            let was = key(object.meta()).and_then(|own| before.remove(&own));
                            concerned.some.extend(service(&object).into_iter().chain(was));
                        }
                        // Who has gone while nobody watched is not told.
                        watcher::Event::InitApply(object) => {
                            concerned.all = true;
                            if let (Some(own), Some(now)) = (key(object.meta()), service(&object))
                                && own != now
                            {
                                before.insert(own, now);
                            }
                        }
                        watcher::Event::Init => {
                            concerned.all = true;
                            before.clear();
                        }
                        watcher::Event::InitDone => concerned.all = true,
                    }
                }
                changed.notify.notify_one();
            }
            Err(error) => tracing::debug!(%error, "watching Services"),
        }
    }
}

async fn apply(world: World, network: Arc<dyn PodNetwork>, changed: Arc<Changed>, cancel: CancellationToken) {
    // A half-known state would take running Services away, or let through what policies forbid; all must be there first.
    let ready = async {
        let _ = world.services.wait_until_ready().await;
        let _ = world.slices.wait_until_ready().await;
        let _ = world.policies.wait_until_ready().await;
        let _ = world.namespaces.wait_until_ready().await;
        let _ = world.pods.wait_until_ready().await;
    };
    if cancel.run_until_cancelled(ready).await.is_none() {
        return;
    }
    let mut last = Told::default();
    loop {
        let concerned = std::mem::take(&mut *changed.services.lock());
        world.translate(concerned, &mut last);
        if let Err(error) = world.bring(&network, &mut last).await {
            tracing::warn!(%error, "the network does not take the Services and policies");
            if cancel
                .run_until_cancelled(tokio::time::sleep(RETRY))
                .await
                .is_none()
            {
                return;
            }
            continue;
        }
        if cancel
            .run_until_cancelled(changed.notify.notified())
            .await
            .is_none()
        {
            return;
        }
        tokio::time::sleep(GATHER).await;
    }
}

impl World {
    /// Tells the network what has changed: policies first, since Services open ways to Pods.
    async fn bring(&self, network: &Arc<dyn PodNetwork>, last: &mut Told) -> Result<(), NetworkError> {
        let policies = self.policies.state();
        let policies = match policies.is_empty() {
            true => Vec::new(),
            false => policies::translate(&policies, &self.namespaces.state(), &self.pods.state()),
        };
        if last.policies.as_ref() != Some(&policies) {
            network.set_policies(policies.clone()).await?;
            last.policies = Some(policies);
        }
        let ports = host_ports(&self.pods.state());
        if last.ports.as_ref() != Some(&ports) {
            network.set_host_ports(ports.clone()).await?;
            last.ports = Some(ports);
        }
        if last.news || !last.started {
            network
                .set_services(last.services.values().cloned().collect())
                .await?;
            (last.news, last.started) = (false, true);
        }
        Ok(())
    }

    /// Translates those Services anew that something concerns.
    fn translate(&self, concerned: Concerned, last: &mut Told) {
        if concerned.all || !last.started {
            let all = translate(&self.services.state(), &self.slices.state(), &self.node);
            let all = all
                .into_iter()
                .map(|one| ((one.namespace.clone(), one.name.clone()), one));
            let all: BTreeMap<Key, NetService> = all.collect();
            last.news |= all != last.services;
            last.services = all;
            return;
        }
        if concerned.some.is_empty() {
            return;
        }
        let some: HashSet<(&str, &str)> = concerned
            .some
            .iter()
            .map(|(namespace, name)| (namespace.as_str(), name.as_str()))
            .collect();
        let mut slices = self.slices.state();
        slices.retain(|slice| {
            let service = slice.metadata.labels.as_ref().and_then(|l| l.get(SERVICE_NAME));
            let namespace = slice.metadata.namespace.as_deref();
            namespace
                .zip(service)
                .is_some_and(|(ns, service)| some.contains(&(ns, service)))
        });
        let find = |(namespace, name): &Key| {
            let reference = reflector::ObjectRef::new(name).within(namespace);
            self.services.get(&reference)
        };
        let services: Vec<Arc<Service>> = concerned.some.iter().filter_map(find).collect();
        let now = translate(&services, &slices, &self.node).into_iter();
        let mut now: HashMap<Key, NetService> = now
            .map(|one| ((one.namespace.clone(), one.name.clone()), one))
            .collect();
        for key in concerned.some {
            last.news |= match now.remove(&key) {
                Some(one) => last.services.insert(key, one.clone()) != Some(one),
                None => last.services.remove(&key).is_some(),
            };
        }
    }
}

/// The ports of the host that containers of its Pods want, in a stable order.
fn host_ports(pods: &[Arc<Pod>]) -> Vec<HostPort> {
    let mut result = Vec::new();
    for pod in pods {
        let Some(ip) = policies::address(pod) else {
            continue;
        };
        for port in admit::ports(pod) {
            let number = |number: Option<i32>| number.and_then(|number| u16::try_from(number).ok());
            let at = port.host_ip.as_deref().and_then(|at| at.parse::<Ipv4Addr>().ok());
            let wanted = number(port.host_port).filter(|number| *number > 0);
            if let (Some(wanted), Some(own)) = (wanted, number(Some(port.container_port))) {
                result.push(HostPort {
                    at: at.filter(|at| !at.is_unspecified()),
                    protocol: protocol(port.protocol.as_deref()),
                    port: wanted,
                    to: (ip, own),
                });
            }
        }
    }
    result.sort_unstable();
    // The scheduler and the agent let nobody have another's; one container may name a port twice.
    result.dedup_by_key(|port| (port.at, port.protocol, port.port));
    result
}

/// Kubernetes objects as the network of a node sees them, in a stable order.
pub fn translate(services: &[Arc<Service>], slices: &[Arc<EndpointSlice>], node: &str) -> Vec<NetService> {
    let mut by_service: HashMap<(&str, &str), Vec<&EndpointSlice>> = HashMap::new();
    for slice in slices {
        let owner = slice
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(SERVICE_NAME));
        if let (Some(owner), Some(namespace)) = (owner, &slice.metadata.namespace) {
            by_service.entry((namespace, owner)).or_default().push(slice);
        }
    }
    let mut result: Vec<NetService> = services
        .iter()
        .filter_map(|service| {
            let key = (
                service.metadata.namespace.as_deref()?,
                service.metadata.name.as_deref()?,
            );
            one(
                service,
                by_service.get(&key).map(Vec::as_slice).unwrap_or_default(),
                node,
            )
        })
        .collect();
    result.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    result
}

fn one(service: &Service, slices: &[&EndpointSlice], node: &str) -> Option<NetService> {
    let spec = service.spec.as_ref()?;
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    let address = match (kind, spec.cluster_ip.as_deref()) {
        ("ExternalName", _) => ServiceAddress::External(spec.external_name.clone()?),
        (_, Some("None")) => ServiceAddress::Headless,
        (_, Some(ip)) => ServiceAddress::Cluster(ip.parse().ok()?),
        (_, None) => return None,
    };
    // A load balancer that comes to the nodes as a client of its own keeps its address to itself.
    let ingress = service
        .status
        .iter()
        .filter_map(|status| status.load_balancer.as_ref()?.ingress.as_ref())
        .flatten()
        .filter(|ingress| ingress.ip_mode.as_deref().is_none_or(|mode| mode == "VIP"))
        .filter_map(|ingress| ingress.ip.as_deref()?.parse().ok());
    let balanced: Vec<Ipv4Addr> = ingress.collect();
    let ranges = spec.load_balancer_source_ranges.iter().flatten();
    let sources: Vec<Ipv4Net> = ranges.filter_map(|range| range.trim().parse().ok()).collect();
    let external = spec.external_ips.iter().flatten();
    let mut vips = balanced.clone();
    vips.extend(external.filter_map(|ip| ip.parse::<Ipv4Addr>().ok()));
    vips.sort_unstable();
    vips.dedup();
    let ports = spec
        .ports
        .iter()
        .flatten()
        .filter_map(|port| {
            Some(ServicePort {
                name: port.name.clone().unwrap_or_default(),
                protocol: protocol(port.protocol.as_deref()),
                port: u16::try_from(port.port).ok()?,
                node_port: port
                    .node_port
                    .and_then(|p| u16::try_from(p).ok())
                    .filter(|p| *p != 0),
            })
        })
        .collect();
    let endpoints = match address {
        // The slices of a headless Service have the label as well, and are for its names alone.
        ServiceAddress::Cluster(_) => {
            endpoints(slices.iter().filter(|slice| !not_ours(&slice.metadata)), node)
        }
        _ => endpoints(slices.iter(), node),
    };
    // Who has the Service's own address serves it there, as the cluster's DNS does.
    let own = |endpoint: &Endpoint| address == ServiceAddress::Cluster(endpoint.ip);
    Some(NetService {
        namespace: service.metadata.namespace.clone()?,
        name: service.metadata.name.clone()?,
        vips,
        ports,
        client_affinity: affinity(spec),
        served_elsewhere: not_ours(&service.metadata) || endpoints.iter().any(own),
        health_port: spec
            .health_check_node_port
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0),
        guard: spec
            .load_balancer_source_ranges
            .as_ref()
            .filter(|ranges| !ranges.is_empty())
            .map(|_| Guard {
                vips: balanced,
                sources,
            }),
        only_here: OnlyHere {
            inside: spec.internal_traffic_policy.as_deref() == Some("Local"),
            outside: spec.external_traffic_policy.as_deref() == Some("Local"),
        },
        publish_not_ready: spec.publish_not_ready_addresses == Some(true),
        endpoints,
        address,
    })
}

/// Whether a Service or a slice is none of this proxy's.
fn not_ours(metadata: &ObjectMeta) -> bool {
    let labels = metadata.labels.as_ref();
    labels.is_some_and(|labels| NOT_OURS.iter().any(|label| labels.contains_key(*label)))
}

/// How long a client keeps its endpoint, if it shall.
fn affinity(spec: &ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref();
    let seconds = config.and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    Some(
        seconds
            .and_then(|seconds| u32::try_from(seconds).ok())
            .unwrap_or(AFFINITY_SECONDS),
    )
}

pub(crate) fn protocol(name: Option<&str>) -> Protocol {
    match name {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
}

/// How an address serves one port.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Serving {
    here: bool,
    ready: bool,
    ending: bool,
    hostname: Option<String>,
}

/// The endpoints of some slices. An address may stand in several, with other ports in each, and be ready for one port and
/// not for another; then it is here as often. Where two slices have the same port of an address, one who is going (whose
/// address another has by now) gives way. Source: `addEndpoints` of `pkg/proxy/endpointslicecache.go`.
fn endpoints<'s>(slices: impl Iterator<Item = &'s &'s EndpointSlice>, node: &str) -> Vec<Endpoint> {
    let mut all: BTreeMap<(Ipv4Addr, Option<(String, u16)>), Serving> = BTreeMap::new();
    for slice in slices.filter(|slice| slice.address_type == "IPv4") {
        let numbered = slice.ports.iter().flatten().filter_map(|port| {
            let number = u16::try_from(port.port?).ok()?;
            Some(Some((port.name.clone().unwrap_or_default(), number)))
        });
        let mut ports: Vec<Option<(String, u16)>> = numbered.collect();
        if ports.is_empty() {
            // Its addresses have names all the same.
            ports.push(None);
        }
        for endpoint in &slice.endpoints {
            // Unset means ready, and serving (discovery/v1).
            let conditions = endpoint.conditions.as_ref();
            let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
            let serves = conditions.and_then(|c| c.serving).unwrap_or(true);
            let is_going = conditions.and_then(|c| c.terminating).unwrap_or(false);
            for ip in endpoint.addresses.iter().filter_map(|ip| ip.parse().ok()) {
                for port in &ports {
                    let key = (ip, port.clone());
                    if is_going && all.contains_key(&key) {
                        continue;
                    }
                    let serving = Serving {
                        here: endpoint.node_name.as_deref() == Some(node),
                        ready,
                        ending: serves && is_going,
                        hostname: endpoint.hostname.clone(),
                    };
                    all.insert(key, serving);
                }
            }
        }
    }
    let mut alike: BTreeMap<(Ipv4Addr, Serving), Vec<(String, u16)>> = BTreeMap::new();
    for ((ip, port), serving) in all {
        alike.entry((ip, serving)).or_default().extend(port);
    }
    let endpoint = |((ip, serving), ports): ((Ipv4Addr, Serving), _)| Endpoint {
        ip,
        ports,
        here: serving.here,
        ready: serving.ready,
        ending: serving.ending,
        hostname: serving.hostname,
    };
    alike.into_iter().map(endpoint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_of_the_host_lead_to_pods() {
        let pod = |ip: &str, phase: &str, ports| {
            let spec = json!({"containers": [{"name": "c", "ports": ports}]});
            let pod = json!({"spec": spec, "status": {"phase": phase, "podIP": ip}});
            Arc::new(serde_json::from_value::<Pod>(pod).expect("a Pod"))
        };
        let web = json!([{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81},
            {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "192.0.2.1"},
            {"containerPort": 82, "hostPort": 82, "hostIP": "0.0.0.0"}]);
        let other = json!([{"containerPort": 80, "hostPort": 9090}]);
        let pods = [
            pod("10.244.0.2", "Running", web),
            pod("10.244.0.3", "Failed", other.clone()),
            pod("", "Pending", other),
        ];
        let found: Vec<_> = host_ports(&pods)
            .iter()
            .map(|port| (port.at.is_some(), port.protocol, port.port, port.to.1))
            .collect();
        let expected = [
            (false, Protocol::Tcp, 82, 82),
            (false, Protocol::Tcp, 8080, 80),
            (true, Protocol::Udp, 53, 53),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn services_with_their_endpoints() {
        let service = |value| Arc::new(serde_json::from_value::<Service>(value).expect("a Service"));
        let slice = |value| Arc::new(serde_json::from_value::<EndpointSlice>(value).expect("a slice"));
        let services = [
            service(
                json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": {"type": "LoadBalancer",
                "clusterIP": "10.96.0.7", "ports": [{"port": 80, "nodePort": 30080, "targetPort": 8080}],
                "externalTrafficPolicy": "Local", "sessionAffinity": "ClientIP", "externalIPs": ["198.51.100.9"],
                "loadBalancerSourceRanges": ["203.0.113.0/24"]},
                "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}}}),
            ),
            service(json!({"metadata": {"namespace": "shop", "name": "db",
                "labels": {"service.kubernetes.io/service-proxy-name": "mesh"}}, "spec": {"clusterIP": "None"}})),
        ];
        let slices = [
            slice(json!({"metadata": {"namespace": "shop", "name": "web-x",
            "labels": {SERVICE_NAME: "web"}}, "addressType": "IPv4", "ports": [{"port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.244.0.2"], "nodeName": "here", "conditions": {"ready": true}},
                {"addresses": ["10.244.0.3"], "nodeName": "there", "conditions": {"ready": false}},
                {"addresses": ["10.244.0.4"], "conditions": {"ready": false, "serving": true, "terminating": true}}]})),
            slice(json!({"metadata": {"namespace": "shop", "name": "web-y",
            "labels": {SERVICE_NAME: "web", "service.kubernetes.io/headless": ""}}, "addressType": "IPv4",
            "ports": [{"port": 8080}], "endpoints": [{"addresses": ["10.244.0.5"]}]})),
        ];
        let found = translate(&services, &slices, "here");
        assert_eq!(found[0].address, ServiceAddress::Headless);
        assert!(found[0].served_elsewhere);
        let web = &found[1];
        let vip = Ipv4Addr::new(198, 51, 100, 1);
        assert_eq!(web.vips, [vip, Ipv4Addr::new(198, 51, 100, 9)]);
        assert_eq!(web.client_affinity, Some(10_800));
        assert_eq!(
            web.guard.as_ref().map(|guard| guard.vips.as_slice()),
            Some([vip].as_slice())
        );
        let ending: Vec<bool> = web.endpoints.iter().map(|endpoint| endpoint.ending).collect();
        assert_eq!(ending, [false, false, true]);
        let here: Vec<bool> = web.endpoints.iter().map(|endpoint| endpoint.here).collect();
        assert_eq!(here, [true, false, false]);
        assert!(web.only_here.outside && !web.only_here.inside);
        assert_eq!(web.ports[0].node_port, Some(30080));
        assert_eq!(web.targets(""), [(Ipv4Addr::new(10, 244, 0, 2), 8080)]);
    }

    fn parsed<T: DeserializeOwned>(value: serde_json::Value) -> Arc<T> {
        Arc::new(serde_json::from_value(value).expect("an object"))
    }

    fn slice_of(name: &str, ports: serde_json::Value, endpoints: serde_json::Value) -> Arc<EndpointSlice> {
        parsed(
            json!({"metadata": {"namespace": "shop", "name": name, "labels": {SERVICE_NAME: "web"}},
            "addressType": "IPv4", "ports": ports, "endpoints": endpoints}),
        )
    }

    #[test]
    fn an_address_may_be_ready_for_one_port_alone() {
        let service = parsed::<Service>(json!({"metadata": {"namespace": "shop", "name": "web"},
            "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}}));
        let at = |conditions| json!([{"addresses": ["10.244.0.2"], "conditions": conditions}]);
        let a = json!([{"name": "a", "port": 8080}]);
        let b = json!([{"name": "b", "port": 8081}]);
        let targets = |slices: &[Arc<EndpointSlice>]| {
            let found = translate(std::slice::from_ref(&service), slices, "here").remove(0);
            (found.targets("a").len(), found.targets("b").len())
        };
        let ready = || at(json!({"ready": true}));
        let going = || at(json!({"ready": false, "terminating": true}));
        let gone = || at(json!({"ready": false, "serving": false, "terminating": true}));
        let cases = [
            (
                "one port",
                vec![
                    slice_of("x", a.clone(), ready()),
                    slice_of("y", b, at(json!({"ready": false}))),
                ],
                (1, 0),
            ),
            ("going", vec![slice_of("x", a.clone(), going())], (1, 0)),
            (
                "going, and does not serve",
                vec![slice_of("x", a.clone(), gone())],
                (0, 0),
            ),
            (
                "another has its address",
                vec![slice_of("x", a.clone(), ready()), slice_of("y", a, gone())],
                (1, 0),
            ),
        ];
        for (what, slices, expected) in cases {
            assert_eq!(targets(&slices), expected, "{what}");
        }
    }

    #[test]
    fn addresses_that_others_serve_are_left_alone() {
        let balanced = parsed::<Service>(json!({"metadata": {"namespace": "shop", "name": "web"},
            "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.7"}, "status": {"loadBalancer": {"ingress": [
                {"ip": "198.51.100.1", "ipMode": "VIP"}, {"ip": "198.51.100.2", "ipMode": "Proxy"}]}}}));
        let found = translate(&[balanced], &[], "here");
        assert_eq!(found[0].vips, [Ipv4Addr::new(198, 51, 100, 1)]);
        assert!(!found[0].served_elsewhere);
        let port = json!([{"name": "dns", "port": 53, "protocol": "UDP"}]);
        let own = slice_of("x", port, json!([{"addresses": ["10.96.0.10"]}]));
        let dns = parsed::<Service>(json!({"metadata": {"namespace": "shop", "name": "web"},
            "spec": {"clusterIP": "10.96.0.10"}}));
        assert!(translate(&[dns], &[own], "here")[0].served_elsewhere);
    }

    #[test]
    fn what_has_changed_is_translated_anew() {
        let (services, mut of_services) = reflector::store();
        let (slices, mut of_slices) = reflector::store();
        let world = World {
            services,
            slices,
            policies: reflector::store().0,
            namespaces: reflector::store().0,
            pods: reflector::store().0,
            node: "here".into(),
        };
        let service = |name: &str, ip: &str| {
            let object = json!({"metadata": {"namespace": "shop", "name": name}, "spec": {"clusterIP": ip}});
            serde_json::from_value::<Service>(object).expect("a Service")
        };
        let slice = |service: &str, ip: &str| {
            let object = json!({"metadata": {"namespace": "shop", "name": "s", "labels": {SERVICE_NAME: service}},
                "addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": [ip]}]});
            serde_json::from_value::<EndpointSlice>(object).expect("a slice")
        };
        let mut told = Told::default();
        for name in ["a", "b"] {
            of_services.apply_watcher_event(&watcher::Event::Apply(service(name, "10.96.0.1")));
        }
        world.translate(Concerned::default(), &mut told);
        assert!(told.news && told.services.len() == 2, "at first all are");
        (told.news, told.started) = (false, true);
        let key = |name: &str| ("shop".to_owned(), name.to_owned());
        let addresses = |told: &Told, name: &str| told.services.get(&key(name)).map(|s| s.endpoints.len());
        // What happens, who is said to be concerned, whether the network is told, endpoints of both.
        type Event = (
            Option<watcher::Event<Service>>,
            Option<watcher::Event<EndpointSlice>>,
        );
        let apply = |slice| (None, Some(watcher::Event::Apply(slice)));
        type Case = (Event, &'static [&'static str], bool, [Option<usize>; 2]);
        let cases: Vec<Case> = vec![
            (apply(slice("a", "10.244.0.2")), &["a"], true, [Some(1), Some(0)]),
            (apply(slice("a", "10.244.0.2")), &["a"], false, [Some(1), Some(0)]),
            (
                apply(slice("b", "10.244.0.2")),
                &["a", "b"],
                true,
                [Some(0), Some(1)],
            ),
            (
                (Some(watcher::Event::Delete(service("a", "10.96.0.1"))), None),
                &["a"],
                true,
                [None, Some(1)],
            ),
            ((None, None), &["nobody"], false, [None, Some(1)]),
            (
                (Some(watcher::Event::Apply(service("a", "10.96.0.9"))), None),
                &["a"],
                true,
                [Some(0), Some(1)],
            ),
        ];
        for (at, ((service, slice), concerned, news, expected)) in cases.into_iter().enumerate() {
            service
                .iter()
                .for_each(|event| of_services.apply_watcher_event(event));
            slice
                .iter()
                .for_each(|event| of_slices.apply_watcher_event(event));
            let some = concerned.iter().map(|name| key(name)).collect();
            world.translate(Concerned { all: false, some }, &mut told);
            assert_eq!(std::mem::take(&mut told.news), news, "{at}");
            assert_eq!([addresses(&told, "a"), addresses(&told, "b")], expected, "{at}");
            let all = translate(&world.services.state(), &world.slices.state(), "here");
            assert!(told.services.values().eq(&all), "{at}");
        }
    }

    #[tokio::test]
    async fn a_slice_that_changes_hands_concerns_both() {
        use watcher::Event::{Apply, Delete, Init, InitApply};
        let slice = |name: &str, service: &str| {
            let labels = json!({SERVICE_NAME: service});
            let object = json!({"metadata": {"namespace": "shop", "name": name, "labels": labels},
                "addressType": "IPv4", "endpoints": []});
            serde_json::from_value::<EndpointSlice>(object).expect("a slice")
        };
        let cases = [
            (vec![Apply(slice("x", "a"))], false, "a"),
            (vec![Apply(slice("x", "a")), Apply(slice("x", "b"))], false, "a b"),
            (
                vec![InitApply(slice("x", "a")), Apply(slice("x", "b"))],
                true,
                "a b",
            ),
            (vec![Apply(slice("a", "a")), Delete(slice("a", "a"))], false, "a"),
            (vec![Init], true, ""),
        ];
        for (at, (events, all, some)) in cases.into_iter().enumerate() {
            let changed = Arc::new(Changed::default());
            let stream = futures::stream::iter(events.into_iter().map(Ok));
            pump(stream, of_service, changed.clone(), CancellationToken::new()).await;
            let concerned = std::mem::take(&mut *changed.services.lock());
            let names: Vec<String> = concerned.some.into_iter().map(|(_, name)| name).collect();
            assert_eq!((concerned.all, names.join(" ").as_str()), (all, some), "{at}");
        }
    }
}
