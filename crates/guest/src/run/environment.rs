//! Names of environment variables, without those by which whoever sets them would choose what code a program runs.

use std::{fmt, str::FromStr};

/// The longest name.
const MAX_NAME: usize = 255;

/// The name of a variable that may be set for a command.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VariableName(String);

/// Why a variable is not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No name of a variable.
    #[error("a variable's name has 1 to {MAX_NAME} letters, digits and '_', and begins with no digit")]
    Malformed,
    /// A name that decides which code runs.
    #[error("{0} decides which code the command runs, or how it finds it, and is never set")]
    Dangerous(String),
}

/// Beginnings of names that loaders, shells and tools heed.
const PREFIXES: [&str; 9] =
    ["LD_", "DYLD_", "BASH_FUNC_", "DOCKER_", "GIT_", "MALLOC_", "GLIBC_", "PYTHON", "BAILEY_"];

/// Names that choose code, search paths or configuration of loaders, shells, interpreters and libraries.
const NAMES: [&str; 33] = [
    "PATH",
    "BASH_ENV",
    "BASHOPTS",
    "ENV",
    "IFS",
    "SHELLOPTS",
    "SHELL",
    "ZDOTDIR",
    "PS4",
    "PROMPT_COMMAND",
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "RES_OPTIONS",
    "RESOLV_HOST_CONF",
    "OPENSSL_CONF",
    "OPENSSL_MODULES",
    "OPENSSL_ENGINES",
    "SSLKEYLOGFILE",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PERL5LIB",
    "PERL5OPT",
    "PERLLIB",
    "RUBYOPT",
    "RUBYLIB",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "CLASSPATH",
    "LUA_INIT",
];

impl VariableName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VariableName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let starts = name.bytes().next().is_some_and(|first| !first.is_ascii_digit());
        if !starts || name.len() > MAX_NAME || !name.bytes().all(allowed) {
            return Err(NameError::Malformed);
        }
        let upper = name.to_ascii_uppercase();
        if NAMES.contains(&upper.as_str()) || PREFIXES.iter().any(|prefix| upper.starts_with(prefix)) {
            return Err(NameError::Dangerous(name.to_owned()));
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for VariableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s24_variables_that_choose_code_are_refused() {
        for name in [
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "ld_audit",
            "PATH",
            "BASH_ENV",
            "ENV",
            "DOCKER_HOST",
            "GLIBC_TUNABLES",
            "GCONV_PATH",
            "PYTHONPATH",
            "NODE_OPTIONS",
            "JAVA_TOOL_OPTIONS",
            "GIT_SSH_COMMAND",
            "BASH_FUNC_ls",
            "SSLKEYLOGFILE",
            "BAILEY_SECRETS",
        ] {
            assert_eq!(name.parse::<VariableName>(), Err(NameError::Dangerous(name.into())));
        }
    }

    #[test]
    fn names_are_names() {
        for name in ["DB_PASSWORD", "_x", "home", "PATHOLOGY"] {
            assert_eq!(name.parse::<VariableName>().expect(name).as_str(), name);
        }
        for name in ["", "1A", "A B", "A=B", "A\0", "Ä", &"A".repeat(256)] {
            assert_eq!(name.parse::<VariableName>(), Err(NameError::Malformed), "{name:?}");
        }
    }
}
