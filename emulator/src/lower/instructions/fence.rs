//! Fences of memory and between the proxies.

use crate::ir::Op;
use crate::lower::Result;
use crate::lower::builder::Builder;
use crate::lower::modifiers::Mods;
use crate::ptx::ast::Instruction;

/// Lowers an instruction of the family; `None` for other mnemonics.
pub(crate) fn lower<'m, 'a>(
    b: &mut Builder<'m, 'a>,
    base: &str,
    i: &'m Instruction<'a>,
    m: &mut Mods<'a>,
) -> Option<Result<()>> {
    Some(match base {
        "membar" | "fence" => b.fence(i, m),
        _ => return None,
    })
}

impl<'a> Builder<'_, 'a> {
    /// `membar`, `fence`
    fn fence(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        m.ignore(&[
            "sc", "acq_rel", "acquire", "release", "cta", "cluster", "gpu", "gl", "sys",
        ]);
        if m.take("mbarrier_init") {
            self.emit(Op::ProxyFence {
                mbarrier_init: true,
            });
            return Ok(());
        }
        if m.take("proxy") {
            return self.proxy_fence(m);
        }
        if !i.operands.is_empty() {
            return m.error("takes no operands");
        }
        self.emit(Op::Fence);
        Ok(())
    }

    /// `fence.proxy`; its other modifiers have not been taken yet.
    fn proxy_fence(&mut self, m: &mut Mods<'a>) -> Result<()> {
        let shared = if m.take("async") {
            let only_global = m.take("global");
            let shared = Self::take_shared(m).is_some();
            shared || !only_global
        } else {
            m.ignore(&["async::generic", "alias", "tensormap::generic", "tensormap"]);
            Self::take_shared(m);
            false
        };
        self.emit(if shared {
            Op::ProxyFence {
                mbarrier_init: false,
            }
        } else {
            Op::Fence
        });
        Ok(())
    }
}
