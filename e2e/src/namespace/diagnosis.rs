//! What a person wants to see of a namespace whose test failed.

use crate::cluster::Bed;

pub(super) fn print(bed: &Bed, namespace: &str) {
    let show = |arguments: &[&str]| show(bed, namespace, arguments);
    eprintln!("──── namespace {namespace} ────");
    show(&["get", "pods", "-o", "wide"]);
    show(&["get", "decisionengines", "-o", "wide"]);
    show(&["get", "events", "--sort-by=.lastTimestamp"]);
    let pods = bed.kubectl_json(&["--namespace", namespace, "get", "pods"]).unwrap_or_default();
    for pod in pods["items"].as_array().into_iter().flatten() {
        let Some(name) = pod["metadata"]["name"].as_str() else { continue };
        eprintln!("──── the last lines of {name} ────");
        show(&["logs", name, "--all-containers", "--prefix", "--tail=30", "--ignore-errors"]);
        let restarted = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
        for container in
            restarted.filter(|status| status["restartCount"].as_u64().is_some_and(|count| count > 0))
        {
            let Some(container) = container["name"].as_str() else { continue };
            eprintln!("──── {container} of {name} before its last restart ────");
            show(&["logs", name, "--container", container, "--previous", "--tail=30"]);
        }
    }
}

fn show(bed: &Bed, namespace: &str, arguments: &[&str]) {
    match bed.kubectl(&[&["--namespace", namespace], arguments].concat()) {
        Ok(text) => eprintln!("{}", text.trim_end()),
        Err(error) => eprintln!("({error:#})"),
    }
}
