//! The machine's boot id: another one means that every process, and the page cache, began anew.

use std::fs;

use super::Error;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The id of this boot of the machine.
///
/// # Errors
/// If the kernel does not show it.
pub fn id() -> Result<String, Error> {
    let text = fs::read_to_string(BOOT_ID).map_err(Error::Boot)?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_boot_has_one_id() {
        let id = super::id().unwrap();
        assert_eq!(id.len(), 36, "{id}");
        assert_eq!(id, super::id().unwrap());
    }
}
