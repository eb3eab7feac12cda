//! Where files live: XDG, or everything under `PLIMSOLL_HOME`.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// The folders of one user.
#[derive(Debug, Clone)]
pub struct Home {
    config: PathBuf,
    state: PathBuf,
}

/// No folder could be found.
#[derive(Debug, thiserror::Error)]
#[error(
    "neither PLIMSOLL_HOME nor HOME is set: set PLIMSOLL_HOME to the folder that shall hold policy and state"
)]
pub struct NoHome;

impl Home {
    /// The folders that the environment names: `PLIMSOLL_HOME`, else `XDG_CONFIG_HOME` and `XDG_STATE_HOME` with their
    /// defaults under `HOME`. Nothing is created.
    ///
    /// # Errors
    /// [`NoHome`].
    pub fn from_env() -> Result<Self, NoHome> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// What [`Home::from_env`] says, with the environment as an argument. An empty variable counts as unset.
    fn from_variables(look_up: impl Fn(&str) -> Option<OsString>) -> Result<Self, NoHome> {
        let variable = |name: &str| look_up(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        if let Some(home) = variable("PLIMSOLL_HOME") {
            return Ok(Self::at(&home));
        }
        let home = variable("HOME");
        let xdg = |name: &str, default: &str| {
            variable(name)
                .filter(|path| path.is_absolute())
                .or_else(|| home.as_ref().map(|home| home.join(default)))
                .map(|path| path.join("plimsoll"))
                .ok_or(NoHome)
        };
        Ok(Self { config: xdg("XDG_CONFIG_HOME", ".config")?, state: xdg("XDG_STATE_HOME", ".local/state")? })
    }

    /// Everything under one folder.
    pub fn at(folder: &Path) -> Self {
        Self { config: folder.to_owned(), state: folder.join("state") }
    }

    /// The policy: the one thing `verify` reads.
    pub fn policy(&self) -> PathBuf {
        self.config.join("policy.toml")
    }

    /// The pinned root documents.
    pub fn roots(&self) -> PathBuf {
        self.config.join("roots")
    }

    /// Which daemon takes submissions for which trust repository.
    pub fn servers(&self) -> PathBuf {
        self.config.join("servers.toml")
    }

    /// Trusted state, one folder per trust id.
    pub fn state(&self) -> PathBuf {
        self.state.clone()
    }

    /// What the publish side remembers. Apart from [`Home::state`]: the daemon shows a publisher what it has accepted, which
    /// is ahead of the registry until it is pushed, and a verifier that knew it would take the registry for rolled back.
    pub fn publishing(&self) -> PathBuf {
        self.state.join("publishing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_where_the_environment_says() {
        let all =
            [("PLIMSOLL_HOME", "/p"), ("XDG_CONFIG_HOME", "/c"), ("XDG_STATE_HOME", "/s"), ("HOME", "/h")];
        let defaults = Some(("/h/.config/plimsoll", "/h/.local/state/plimsoll"));
        type Case<'a> = (&'a [(&'a str, &'a str)], Option<(&'a str, &'a str)>);
        let cases: [Case<'_>; 9] = [
            (&all, Some(("/p", "/p/state"))),
            (&all[..1], Some(("/p", "/p/state"))),
            (&all[1..], Some(("/c/plimsoll", "/s/plimsoll"))),
            (&all[1..3], Some(("/c/plimsoll", "/s/plimsoll"))),
            (&all[3..], defaults),
            // By the XDG specification a relative path is ignored.
            (&[("XDG_CONFIG_HOME", "c"), ("XDG_STATE_HOME", "./s"), ("HOME", "/h")], defaults),
            (
                &[("PLIMSOLL_HOME", ""), ("XDG_CONFIG_HOME", ""), ("XDG_STATE_HOME", ""), ("HOME", "/h")],
                defaults,
            ),
            (&[("XDG_CONFIG_HOME", "/c"), ("HOME", "")], None),
            (&[], None),
        ];
        for (variables, expected) in cases {
            let look_up = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
            };
            let found = Home::from_variables(look_up).ok().map(|home| (home.config, home.state));
            let expected = expected.map(|(config, state)| (PathBuf::from(config), PathBuf::from(state)));
            assert_eq!(found, expected, "{variables:?}");
        }
    }
}
