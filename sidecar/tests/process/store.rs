//! A state folder that takes nothing any more: the process says so and ends, and the next one goes on where it was.

use super::application::Application;
use super::pod::Pod;

#[test]
#[ignore = "needs Kafka: cargo verify"]
fn a_store_that_fails_ends_the_process_and_the_next_one_goes_on() {
    let application = Application::start();
    let mut pod = Pod::new("store", application.port());
    pod.start_heard();
    pod.until_ready();
    assert_eq!(pod.propose("a", "a").body, "a taken");
    pod.refuse_writes();
    let answer = pod.propose("b", "b");
    assert!(matches!(answer.status, 0 | 503 | 504), "nobody can say that it was applied: {answer:?}");
    let (status, log) = pod.ended();
    assert!(!status.success(), "the kubelet has to start it again");
    assert!(log.contains("write the journal") && log.contains("File too large"), "{log}");
    assert_eq!(application.taken(), ["a"], "what can't be written down is not delivered");

    pod.start();
    pod.until_ready();
    assert_eq!(pod.propose("b", "b").body, "b taken");
    let again = pod.propose("a", "a");
    assert_eq!((again.body.as_str(), again.header("decree-duplicate")), ("a taken", Some("true")));
    assert_eq!(application.taken(), ["a", "b"]);
}
