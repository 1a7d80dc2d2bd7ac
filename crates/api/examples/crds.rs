//! Prints the custom resources as JSON lines, for `cargo xtask generate` to write down.

fn main() -> Result<(), serde_json::Error> {
    for crd in sandlot_api::crds() {
        println!("{}", serde_json::to_string(&crd)?);
    }
    Ok(())
}
