//! Where files live: XDG, or everything under `PLIMSOLL_HOME`; and which policy applies.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// The folders of one user.
#[derive(Debug, Clone)]
pub struct Home {
    config: PathBuf,
    state: PathBuf,
    policy: Option<PathBuf>,
    profile: Option<String>,
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
        let (config, state) = (xdg("XDG_CONFIG_HOME", ".config")?, xdg("XDG_STATE_HOME", ".local/state")?);
        Ok(Self { config, state, policy: None, profile: None })
    }

    /// Everything under one folder.
    pub fn at(folder: &Path) -> Self {
        Self { config: folder.to_owned(), state: folder.join("state"), policy: None, profile: None }
    }

    /// The same with `file` as the policy. A relative path starts at the current folder.
    #[must_use]
    pub fn with_policy(mut self, file: &Path) -> Self {
        // Without a current folder there is nothing to be relative to either.
        self.policy = Some(std::path::absolute(file).unwrap_or_else(|_| file.to_owned()));
        self
    }

    /// The same with the policy's profile `name` in place of its own scopes.
    #[must_use]
    pub fn with_profile(mut self, name: &str) -> Self {
        self.profile = Some(name.to_owned());
        self
    }

    /// The policy: the one thing `verify` reads. The file given, else `policy.toml`, or `policy.json` if only that is
    /// there.
    pub fn policy(&self) -> PathBuf {
        if let Some(file) = &self.policy {
            return file.clone();
        }
        let [toml, json] = self.policies();
        if json.exists() && !toml.exists() { json } else { toml }
    }

    /// The two names that a policy may have, of which one may exist.
    pub(crate) fn policies(&self) -> [PathBuf; 2] {
        ["policy.toml", "policy.json"].map(|name| self.config.join(name))
    }

    /// True if the policy's file was given, so that no other is looked for.
    pub(crate) fn policy_given(&self) -> bool {
        self.policy.is_some()
    }

    /// The profile whose scopes apply; none for the policy's own.
    pub fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    /// The pinned root documents, beside the policy.
    pub fn roots(&self) -> PathBuf {
        let beside = self.policy.as_deref().and_then(Path::parent);
        beside.unwrap_or(&self.config).join("roots")
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
