//! Debian's Chromium, headless, driven over WebDriver by Debian's chromedriver.

use std::{process::Command, time::Duration};

use fantoccini::{
    Client, ClientBuilder, Locator,
    wd::{Capabilities, WebDriverCompatibleCommand},
};
use hyper_util::client::legacy::connect::HttpConnector;
use plimsoll_tests::process::Service;
use serde_json::{Value, json};
use tempfile::TempDir;
use url::{ParseError, Url};

/// No start of Chromium takes longer, on a busy machine either.
const PATIENCE: Duration = Duration::from_secs(90);

/// A browser with a profile of its own, which reaches loopback only. It ends with chromedriver, and that with the value.
pub(crate) struct Browser {
    pub(crate) client: Client,
    _chromedriver: Service,
    _home: TempDir,
}

/// How a page is to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Light,
    Dark,
}

impl Browser {
    /// One that runs scripts, or one that does not.
    pub(crate) async fn start(scripts: bool) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").env("HOME", home.path()).env("TMPDIR", home.path());
        let chromedriver = Service::start(&mut command);
        // "ChromeDriver was started successfully on port 39515."
        let port: u16 = chromedriver
            .wait_for(|line| line.split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok());
        let profile = format!("--user-data-dir={}", home.path().join("profile").display());
        let arguments = [
            "--headless=new",
            // Its sandbox does not start for root, which tests in a container are. It only ever sees our own pages.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--hide-scrollbars",
            "--window-size=1200,1000",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            &profile,
        ];
        let wanted = json!({
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"pageLoad": 60_000, "script": 60_000},
        });
        let wanted: Capabilities = serde_json::from_value(wanted).unwrap();
        let (mut builder, url) =
            (ClientBuilder::new(HttpConnector::new()), format!("http://127.0.0.1:{port}"));
        let session = builder.capabilities(wanted).connect(&url);
        let client = tokio::time::timeout(PATIENCE, session).await.unwrap().unwrap();
        let browser = Self { client, _chromedriver: chromedriver, _home: home };
        if !scripts {
            browser.tell("Emulation.setScriptExecutionDisabled", json!({"value": true})).await;
        }
        browser
    }

    /// Sends a command of Chromium's DevTools protocol.
    async fn tell(&self, command: &str, parameters: Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        self.client.issue_cmd(OfChromedriver { path: "goog/cdp/execute", body }).await.unwrap()
    }

    /// What people who prefer this scheme see from now on.
    pub(crate) async fn prefer(&self, scheme: Scheme) {
        let value = if scheme == Scheme::Dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": value}]);
        self.tell("Emulation.setEmulatedMedia", json!({"features": features})).await;
    }

    /// The width of the window's inside, CSS pixels.
    pub(crate) async fn width(&self, width: u32) {
        let metrics = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.tell("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    pub(crate) async fn open(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    /// What people can read in the first element that `css` selects.
    pub(crate) async fn text(&self, css: &str) -> String {
        self.client.find(Locator::Css(css)).await.unwrap().text().await.unwrap()
    }

    /// What people can read in each element that `css` selects.
    pub(crate) async fn texts(&self, css: &str) -> Vec<String> {
        let mut texts = Vec::new();
        for element in self.client.find_all(Locator::Css(css)).await.unwrap() {
            texts.push(element.text().await.unwrap());
        }
        texts
    }

    /// What a function body returns that is run in the page.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    /// All that the browser complained about since the last call.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = OfChromedriver { path: "se/log", body: json!({"type": "browser"}) };
        let entries = self.client.issue_cmd(log).await.unwrap();
        entries.as_array().unwrap().iter().map(ToString::to_string).collect()
    }

    /// A picture of what is shown, PNG. With `PLIMSOLL_PICTURES=FOLDER` it is kept there, for people to look at.
    pub(crate) async fn picture(&self, name: &str) -> Vec<u8> {
        let whole = self.size().await;
        let clip = json!({"x": 0, "y": 0, "width": whole.0, "height": whole.1, "scale": 1});
        let parameters = json!({"captureBeyondViewport": true, "clip": clip});
        let answer = self.tell("Page.captureScreenshot", parameters).await;
        let png = data_encoding::BASE64.decode(answer["data"].as_str().unwrap().as_bytes()).unwrap();
        if let Some(folder) = std::env::var_os("PLIMSOLL_PICTURES") {
            std::fs::write(std::path::Path::new(&folder).join(format!("{name}.png")), &png).unwrap();
        }
        png
    }

    /// Width and height of the whole page, CSS pixels.
    async fn size(&self) -> (f64, f64) {
        let size = &self.tell("Page.getLayoutMetrics", json!({})).await["cssContentSize"];
        (size["width"].as_f64().unwrap(), size["height"].as_f64().unwrap())
    }

    /// Ends it in order.
    pub(crate) async fn quit(self) {
        self.client.close().await.unwrap();
    }
}

/// A command that chromedriver adds to WebDriver's.
#[derive(Debug)]
struct OfChromedriver {
    /// Below the session's own path.
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for OfChromedriver {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}
