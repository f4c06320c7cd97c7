//! Requirement of an instruction on `.target` and `.version`.

use crate::lower::Result;
use crate::lower::builder::Builder;
use crate::lower::modifiers::Mods;

impl<'a> Builder<'_, 'a> {
    /// Refuses an instruction that the module's target or PTX version does not have.
    pub(crate) fn need(&self, m: &Mods<'a>, sm: u32, version: (u32, u32)) -> Result<()> {
        let (target, has) = (self.module.target, self.module.version);
        if target < sm {
            let architecture = self.module.architecture;
            return m.error(&format!(
                "needs .target sm_{sm} or higher, not {architecture}"
            ));
        }
        if has < version {
            return m.error(&format!(
                "needs PTX {}.{} or higher, not {}.{}",
                version.0, version.1, has.0, has.1
            ));
        }
        Ok(())
    }

    /// Refuses an instruction for targets other than `sm_90a`.
    pub(crate) fn need_sm90a(&self, m: &Mods<'a>) -> Result<()> {
        match self.module.architecture {
            "sm_90a" => Ok(()),
            target => m.error(&format!("needs `.target sm_90a`, not `{target}`")),
        }
    }
}
