//! Network namespaces on one bridge: the bed's own small internet, without a link to the machine's.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::cluster::{Bed, NODES, SERVICE_RANGE, SWITCH, hosts, node_address, node_name, node_pod_range};
use crate::finish::{finish, finish_silently};

/// The kernel does it at once; a busy machine may take longer.
const LIMIT: Duration = Duration::from_secs(60);

/// Makes the namespaces, their links and their routes.
pub(crate) fn create(bed: &Bed) -> Result<()> {
    let names = std::iter::once("switch".to_owned()).chain(hosts().map(|(host, _)| host));
    let namespaces: String = names.map(|host| format!("netns add {}\n", bed.namespace_name(&host))).collect();
    ip(&["-batch", "-"], &namespaces)?;

    let mut switch = format!(
        "link set lo up\n\
         link add br0 type bridge forward_delay 0\n\
         addr add {SWITCH}/24 dev br0\n\
         link set br0 up\n\
         route add {SERVICE_RANGE} dev br0\n"
    );
    for (host, _) in hosts() {
        let peer = bed.namespace_name(&host);
        switch += &format!(
            "link add {host} type veth peer name eth0 netns {peer}\nlink set {host} master br0 up\n"
        );
    }
    switch += &pod_routes("switch");
    ip(&["-netns", &bed.namespace_name("switch"), "-batch", "-"], &switch)?;
    settings(bed, "switch", false)?;

    for (host, address) in hosts() {
        let routes = pod_routes(&host);
        let own = format!(
            "link set lo up\naddr add {address}/24 dev eth0\nlink set eth0 up\nroute add default via {SWITCH}\n{routes}"
        );
        ip(&["-netns", &bed.namespace_name(&host), "-batch", "-"], &own)?;
        settings(bed, &host, true)?;
    }
    Ok(())
}

/// Pods of a node are reached through that node.
fn pod_routes(host: &str) -> String {
    (1..=NODES)
        .filter(|node| node_name(*node) != host)
        .map(|node| format!("route add {} via {}\n", node_pod_range(node), node_address(node)))
        .collect()
}

/// Kernel settings of one namespace. Traffic between pods of one node must pass iptables, or answers of a Service
/// on the same node keep the pod's address; what the switch merely passes on between hosts must not.
fn settings(bed: &Bed, host: &str, bridged_traffic_filtered: bool) -> Result<()> {
    let script = format!(
        "cd /proc/sys/net; echo 1 > ipv4/ip_forward; echo {} > bridge/bridge-nf-call-iptables; \
         for each in all default; do echo 0 > ipv4/conf/$each/rp_filter; done",
        u8::from(bridged_traffic_filtered)
    );
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", bed.network_namespace(host).display()))
        .args(["--", "sh", "-ec", &script]);
    let status = finish_silently("nsenter", &mut command, LIMIT)?;
    ensure!(status.success(), "set the kernel settings of {host}");
    Ok(())
}

/// Takes a host's link down or up again.
pub(crate) fn set_link(bed: &Bed, host: &str, up: bool) -> Result<()> {
    let state = if up { "up" } else { "down" };
    ip(&["-netns", &bed.namespace_name("switch"), "link", "set", host, state], "")
}

/// Removes all network namespaces of the bed; links go with them.
pub(crate) fn remove(bed: &Bed) -> Result<()> {
    let prefix = bed.namespace_name("");
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return Ok(()) };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // `decree-a-switch` belongs to bed `a`, `decree-a-b-switch` to bed `a-b`.
        if name.strip_prefix(&prefix).is_some_and(|host| !host.contains('-')) {
            ip(&["netns", "delete", &name], "")?;
        }
    }
    Ok(())
}

fn ip(arguments: &[&str], input: &str) -> Result<()> {
    let output = finish("ip", Command::new("ip").args(arguments), input, LIMIT)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), errors.trim());
    Ok(())
}
