//! Text that a launch prints, stored until its end.
use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// Output of a launch's `printf`.
pub(crate) struct Printed {
    /// Maximum number of bytes, including [`EACH`] per piece.
    pub limit: usize,
    pub text: Mutex<Text>,
}

#[derive(Default)]
pub(crate) struct Text {
    /// Pieces of text with their block, in the order of printing.
    pub pieces: VecDeque<(u64, String)>,
    pub bytes: usize,
    pub lost: u64,
}

/// Bytes that a piece takes besides its text.
pub(crate) const EACH: usize = 64;

/// Maximum length of a piece; the oldest piece is dropped as a whole.
pub(crate) const PIECE: usize = 1024;

impl Printed {
    pub fn new(limit: usize) -> Printed {
        Printed {
            limit,
            text: Mutex::default(),
        }
    }

    /// Adds the output of one call of a block's thread.
    pub fn add(&self, block: u64, more: &str) {
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        if more.len() + EACH > self.limit {
            text.lost += more.len() as u64;
            return;
        }
        match text.pieces.back_mut() {
            Some((of, last)) if *of == block && last.len() + more.len() <= PIECE => {
                last.push_str(more);
                text.bytes += more.len();
            }
            _ => {
                text.pieces.push_back((block, more.to_owned()));
                text.bytes += more.len() + EACH;
            }
        }
        while text.bytes > self.limit
            && let Some((_, piece)) = text.pieces.pop_front()
        {
            text.bytes -= piece.len() + EACH;
            text.lost += piece.len() as u64;
        }
    }

    /// Writes the text to standard output, block by block.
    pub fn show(&self, kernel: &str) {
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pieces = Vec::from(std::mem::take(&mut text.pieces));
        pieces.sort_by_key(|(block, _)| *block);
        let mut out = std::io::stdout().lock();
        for (_, piece) in pieces {
            // `print!` would panic if standard output is closed.
            let _ = out.write_all(piece.as_bytes());
        }
        if text.lost > 0 {
            let (lost, limit) = (text.lost, self.limit);
            crate::note::report(&format!(
                "ptx-emulator: kernel {kernel} printed {lost} bytes more than the {limit} bytes of \
                its buffer hold; the oldest are lost (CU_LIMIT_PRINTF_FIFO_SIZE sets its size)"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_keeps_what_was_printed_last() {
        let printed = Printed::new(10_000);
        for line in 0..100_000 {
            printed.add(line % 3, &format!("{line}\n"));
        }
        printed.add(0, &"x".repeat(10_000));
        let text = printed.text.lock().expect("not poisoned");
        let kept: usize = text.pieces.iter().map(|(_, piece)| piece.len()).sum();
        assert!(
            text.bytes <= 10_000 && kept > 500,
            "{kept} of {}",
            text.bytes
        );
        assert_eq!(
            text.pieces.back().map(|(_, piece)| piece.as_str()),
            Some("99999\n")
        );
        let all: usize = (0..100_000)
            .map(|line: u32| line.to_string().len() + 1)
            .sum();
        assert_eq!(text.lost, (all - kept + 10_000) as u64);
    }
}
