//! The system calls of containers whose pods say nothing, as the kernel takes them.

use std::sync::OnceLock;

use seccompiler::BpfProgram;

/// The filters, all of which must agree; made once.
pub(crate) fn default_profile() -> Result<Vec<Vec<u64>>, String> {
    static MADE: OnceLock<Result<Vec<Vec<u64>>, String>> = OnceLock::new();
    MADE.get_or_init(|| match sandlot_syscalls::filter() {
        Ok(filter) => Ok(vec![pack(&filter)]),
        Err(error) => Err(error.to_string()),
    })
    .clone()
}

/// What containers have besides where all are one user.
pub(crate) fn one_user() -> Result<Vec<u64>, String> {
    let filter = sandlot_syscalls::keeping_owners().map_err(|error| error.to_string())?;
    Ok(pack(&filter))
}

fn pack(program: &BpfProgram) -> Vec<u64> {
    let one = |it: &seccompiler::sock_filter| {
        u64::from(it.code) << 48 | u64::from(it.jt) << 40 | u64::from(it.jf) << 32 | u64::from(it.k)
    };
    program.iter().map(one).collect()
}
