//! Reading log files of builds and of the bed's processes.

use std::path::Path;

/// The last lines of a log, as much of it as can be read.
pub(crate) fn tail(log: &Path, lines: usize) -> String {
    let text = read_from(log, 0);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// What was written to a log since it was this long.
pub(crate) fn read_from(log: &Path, start: usize) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned()
}

/// How long a log is: where `read_from` begins for what is to come.
pub(crate) fn length(log: &Path) -> usize {
    std::fs::metadata(log).map_or(0, |metadata| usize::try_from(metadata.len()).unwrap_or(usize::MAX))
}
