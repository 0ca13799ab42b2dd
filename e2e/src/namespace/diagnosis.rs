//! What a person wants to see of a namespace whose test failed.

use super::Namespace;

pub(super) fn print(namespace: &Namespace) {
    eprintln!("──── namespace {} ────", namespace.name());
    show(namespace, &["get", "pods", "-o", "wide"]);
    show(namespace, &["get", "decisionengines", "-o", "wide"]);
    show(namespace, &["get", "events", "--sort-by=.lastTimestamp"]);
    for pod in namespace.list_json("pods", "").unwrap_or_default() {
        let Some(name) = pod["metadata"]["name"].as_str() else { continue };
        eprintln!("──── the last lines of {name} ────");
        show(namespace, &["logs", name, "--all-containers", "--prefix", "--tail=30", "--ignore-errors"]);
        let restarted = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
        for container in
            restarted.filter(|status| status["restartCount"].as_u64().is_some_and(|count| count > 0))
        {
            let Some(container) = container["name"].as_str() else { continue };
            eprintln!("──── {container} of {name} before its last restart ────");
            show(namespace, &["logs", name, "--container", container, "--previous", "--tail=30"]);
        }
    }
}

fn show(namespace: &Namespace, arguments: &[&str]) {
    match namespace.kubectl(arguments) {
        Ok(text) => eprintln!("{}", text.trim_end()),
        Err(error) => eprintln!("({error:#})"),
    }
}
