//! From a Service and its port to the addresses behind it.

use crate::view::{GroupResource, View};
use rand::seq::SliceRandom;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};

/// Addresses of a Service's port: ready endpoints in random order, or what an ExternalName resolves to.
pub async fn endpoints(
    view: &dyn View,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, String> {
    let service = view
        .get(&GroupResource::new("", "services"), Some(namespace), name)
        .ok_or_else(|| format!("service {name:?} not found"))?;
    if service["spec"]["type"] == "ExternalName" {
        let external = service["spec"]["externalName"].as_str().unwrap_or("");
        let found = tokio::net::lookup_host((external, port)).await;
        return Ok(found
            .map_err(|e| format!("dial tcp: lookup {external}: {e}"))?
            .collect());
    }
    let ports = service["spec"]["ports"].as_array();
    let entry = ports
        .into_iter()
        .flatten()
        .find(|p| p["port"].as_u64() == Some(u64::from(port)))
        .ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let port_name = entry["name"].as_str().unwrap_or("");
    let mut found = slices(view, namespace, name, port_name);
    if found.is_empty() {
        found = subsets(view, namespace, name, port_name);
    }
    if found.is_empty() {
        return Err(format!("no endpoints available for service {name:?}"));
    }
    found.shuffle(&mut rand::rng());
    Ok(found)
}

fn port_of(ports: &Value, name: &str) -> Option<u16> {
    let same = |p: &&Value| p["name"].as_str().unwrap_or("") == name;
    let number = ports.as_array()?.iter().find(same)?["port"].as_u64()?;
    u16::try_from(number).ok()
}

fn slices(view: &dyn View, namespace: &str, name: &str, port_name: &str) -> Vec<SocketAddr> {
    let resource = GroupResource::new("discovery.k8s.io", "endpointslices");
    let mut out = Vec::new();
    for slice in view.list(&resource, Some(namespace)) {
        if slice["metadata"]["labels"]["kubernetes.io/service-name"] != name {
            continue;
        }
        let Some(port) = port_of(&slice["ports"], port_name) else {
            continue;
        };
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            // An endpoint that says nothing of its readiness counts as ready.
            if endpoint["conditions"]["ready"] == false {
                continue;
            }
            let address = endpoint["addresses"][0]
                .as_str()
                .and_then(|a| a.parse::<IpAddr>().ok());
            out.extend(address.map(|a| SocketAddr::new(a, port)));
        }
    }
    out
}

fn subsets(view: &dyn View, namespace: &str, name: &str, port_name: &str) -> Vec<SocketAddr> {
    let Some(endpoints) = view.get(&GroupResource::new("", "endpoints"), Some(namespace), name) else {
        return Vec::new();
    };
    let mut out = Vec::new();
    for subset in endpoints["subsets"].as_array().into_iter().flatten() {
        let Some(port) = port_of(&subset["ports"], port_name) else {
            continue;
        };
        for address in subset["addresses"].as_array().into_iter().flatten() {
            let ip = address["ip"].as_str().and_then(|a| a.parse::<IpAddr>().ok());
            out.extend(ip.map(|a| SocketAddr::new(a, port)));
        }
    }
    out
}
