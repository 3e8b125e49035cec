//! Networks of a container. An API before 1.44 (Docker 25) takes one in the
//! create call; the others are connected before the start.

use super::{hash_map, listed};
use crate::supervise::spec::{Network, Spec};
use bollard::models::{EndpointIpamConfig, EndpointSettings, NetworkingConfig};
use std::collections::HashMap;

/// The network that it is created in.
pub fn mode(spec: &Spec) -> Option<String> {
    match spec.networks.first() {
        Some(network) => Some(network.name.clone()),
        None => spec.network_mode.clone(),
    }
}

/// Each network with the container's place in it, that of [`mode`] first.
pub fn endpoints(spec: &Spec) -> Vec<(String, EndpointSettings)> {
    let mut endpoints: Vec<(String, EndpointSettings)> = spec
        .networks
        .iter()
        .map(|network| (network.name.clone(), endpoint(network)))
        .collect();
    if let Some(mac) = &spec.mac_address {
        let settings = match endpoints.first_mut() {
            Some((_, settings)) => settings,
            // Docker knows its own bridge by this name.
            None => {
                let mode = spec
                    .network_mode
                    .clone()
                    .unwrap_or_else(|| "default".into());
                endpoints.push((mode, EndpointSettings::default()));
                &mut endpoints[0].1
            }
        };
        settings.mac_address.get_or_insert_with(|| mac.clone());
    }
    endpoints
}

/// The part of the create call that speaks of the first network.
pub fn config(first: Option<(String, EndpointSettings)>) -> Option<NetworkingConfig> {
    let first = first?;
    Some(NetworkingConfig {
        endpoints_config: Some(HashMap::from([first])),
    })
}

fn endpoint(network: &Network) -> EndpointSettings {
    let is_fixed = network.ipv4_address.is_some()
        || network.ipv6_address.is_some()
        || !network.link_local_ips.is_empty();
    EndpointSettings {
        aliases: listed(network.aliases.iter().cloned()),
        ipam_config: is_fixed.then(|| EndpointIpamConfig {
            ipv4_address: network.ipv4_address.clone(),
            ipv6_address: network.ipv6_address.clone(),
            link_local_ips: listed(network.link_local_ips.iter().cloned()),
        }),
        mac_address: network.mac_address.clone(),
        driver_opts: (!network.driver_opts.is_empty()).then(|| hash_map(&network.driver_opts)),
        ..EndpointSettings::default()
    }
}
