//! What a guest writes to its console: lines for people, and the last one of `bailey-init`. All of it is the guest's word.

/// What `bailey-init` writes before it switches the machine off.
const ENDED: &str = "bailey-init: ended ";
/// A longer line says nothing about the end.
const LONGEST: usize = 128;

/// Reads along.
#[derive(Debug, Default)]
pub(crate) struct Console {
    line: Vec<u8>,
    code: Option<u8>,
}

impl Console {
    /// More of it.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                let line = String::from_utf8_lossy(&self.line);
                let code = line.trim_end().strip_prefix(ENDED).and_then(|code| code.parse().ok());
                self.code = code.or(self.code);
                self.line.clear();
            } else if self.line.len() < LONGEST {
                self.line.push(byte);
            }
        }
    }

    /// The exit code, as far as the guest said one.
    pub(crate) fn code(&self) -> Option<u8> {
        self.code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_that_of_a_line_of_its_own() {
        let code = |text: &str| {
            let mut console = Console::default();
            text.as_bytes().chunks(3).for_each(|chunk| console.read(chunk));
            console.code()
        };
        assert_eq!(code("serving\r\nbailey-init: ended 7\r\n"), Some(7));
        for other in ["", "bailey-init: ended 7", "x bailey-init: ended 7\n", "bailey-init: ended 256\n"] {
            assert_eq!(code(other), None, "{other:?}");
        }
        assert_eq!(code(&format!("{}\nbailey-init: ended 0\n", "x".repeat(1000))), Some(0));
    }
}
