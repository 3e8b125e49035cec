//! How a container goes and how another takes its place: drain, update, takeover.

use crate::config::read::{Item, Table, Wrong};
use crate::supervise::spec::Spec;
use crate::supervise::{Apply, Drain, Order, Takeover, Update};

pub const APPLIES: [(&str, Apply); 2] = [("auto", Apply::Auto), ("manual", Apply::Manual)];
pub const ORDERS: [(&str, Order); 2] = [
    ("stop-first", Order::StopFirst),
    ("overlap", Order::Overlap),
];
pub const TAKEOVERS: [(&str, Takeover); 3] = [
    ("refuse", Takeover::Refuse),
    ("adopt", Takeover::Adopt),
    ("replace", Takeover::Replace),
];

pub fn drain(table: &mut Table<'_>) -> Drain {
    let mut wait = |key| table.take(key).duration_or_zero().unwrap_or_default();
    Drain {
        deregister_wait: wait("deregister_wait"),
        connections: wait("connections"),
    }
}

pub fn update(item: Item<'_>, spec: &Spec) -> Update {
    let default = Update::default();
    item.table(|table| {
        let apply = table.take("apply").choice(&APPLIES, &[]);
        let item = table.take("order");
        let order = item.choice(&ORDERS, &[]).unwrap_or_default();
        if order == Order::Overlap
            && let Some(only) = only_once(spec)
        {
            let wrong = Wrong::new(format!(
                "two of this container cannot run side by side: {only}"
            ));
            item.wrong(wrong.help("use \"stop-first\""));
        }
        let rollback = table.take("rollback").bool();
        let ready_within = table.take("ready_within").duration();
        Update {
            apply: apply.unwrap_or(default.apply),
            order,
            rollback: rollback.unwrap_or(default.rollback),
            ready_within: ready_within.unwrap_or(default.ready_within),
        }
    })
}

/// What of a spec only one container at a time can have.
fn only_once(spec: &Spec) -> Option<String> {
    if let Some(port) = spec.ports.iter().find_map(|port| port.host_port) {
        return Some(format!("host port {port} is fixed"));
    }
    let mode = spec.network_mode.as_deref().unwrap_or_default();
    if mode == "host" || mode.starts_with("container:") {
        return Some(format!("network_mode is {mode:?}"));
    }
    if spec.mac_address.is_some() {
        return Some("mac_address is fixed".into());
    }
    spec.networks.iter().find_map(|network| {
        let fixed = [
            ("ipv4_address", network.ipv4_address.is_some()),
            ("ipv6_address", network.ipv6_address.is_some()),
            ("link_local_ips", !network.link_local_ips.is_empty()),
            ("mac_address", network.mac_address.is_some()),
        ];
        let (key, _) = fixed.into_iter().find(|(_, is_fixed)| *is_fixed)?;
        Some(format!("networks.{}.{key} is fixed", network.name))
    })
}
