//! Refusals of many kernels, grouped by their reason.

use std::fmt;

use super::Refusal;

/// Kernels that refuse a problem for the same reason.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RefusalGroup {
    /// The reason, as [`Refusal`] prints it.
    reason: String,
    /// The kernels' names.
    kernels: Vec<String>,
}

/// Groups refusals by their reason, those of most kernels first.
pub(crate) fn grouped(refused: impl IntoIterator<Item = (String, Refusal)>) -> Vec<RefusalGroup> {
    let mut groups: Vec<RefusalGroup> = Vec::new();
    for (kernel, refusal) in refused {
        let reason = refusal.to_string();
        match groups.iter_mut().find(|group| group.reason == reason) {
            Some(group) => group.kernels.push(kernel),
            None => groups.push(RefusalGroup {
                reason,
                kernels: vec![kernel],
            }),
        }
    }
    // Stable: of two equals the first in the catalog stays first.
    groups.sort_by_key(|group| std::cmp::Reverse(group.kernels.len()));
    groups
}

impl fmt::Display for RefusalGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kernels[..] {
            [kernel] => write!(f, "{kernel} refuses: {}", self.reason),
            kernels => write!(f, "{} kernels refuse: {}", kernels.len(), self.reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_grouped_by_reason() {
        let math = |groups| Refusal::OneGroupOnly { groups };
        let refused = [
            ("a", math(2)),
            ("b", Refusal::SeveralGroupsOnly),
            ("c", math(2)),
        ];
        let groups = grouped(refused.map(|(name, refusal)| (name.to_owned(), refusal)));
        let lines: Vec<String> = groups.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "2 kernels refuse: is for groups = 1, the problem has 2",
                "b refuses: is for several groups, the problem has 1"
            ]
        );
    }
}
