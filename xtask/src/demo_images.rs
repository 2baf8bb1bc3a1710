//! placeholder until the demo images land
pub fn build_all() -> anyhow::Result<()> {
    Ok(())
}
