//! What `kubectl` and `crictl` write.

use std::collections::BTreeMap;

use plimsoll_core::record;
use serde::{Deserialize, de::IgnoredAny};

use super::{Image, Listing, ListingError, names, pinned};

const PODS: &str = "kubectl get pods -o json";
const CRICTL: &str = "crictl ps -o json, or crictl images -o json";
const ONLY_ID: &str = "only the id that it has on its machine is told";
const NOT_TOLD: &str = "neither what it runs nor what it is to run is told";

#[derive(Deserialize)]
struct Kind {
    kind: String,
}

#[derive(Deserialize)]
struct List {
    items: Vec<Pod>,
}

#[derive(Deserialize)]
struct Pod {
    kind: Option<String>,
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    namespace: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    ephemeral_containers: Vec<Container>,
    volumes: Vec<Volume>,
}

#[derive(Deserialize)]
struct Container {
    name: String,
    image: Option<String>,
}

#[derive(Deserialize)]
struct Volume {
    name: String,
    image: Option<VolumeImage>,
}

#[derive(Deserialize)]
struct VolumeImage {
    reference: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: String,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
    ephemeral_container_statuses: Vec<ContainerStatus>,
}

#[derive(Deserialize)]
struct ContainerStatus {
    name: String,
    image: String,
    #[serde(rename = "imageID")]
    image_id: String,
    #[serde(default)]
    state: ContainerState,
}

#[derive(Default, Deserialize)]
struct ContainerState {
    running: Option<IgnoredAny>,
}

/// `kubectl get pods -o json`, of one or of all namespaces, or of one pod.
pub(super) fn kubectl(text: &str) -> Result<Listing, ListingError> {
    let shape = |source| ListingError::Shape { tool: PODS, source };
    let Kind { kind } = record::json(text.as_bytes()).map_err(shape)?;
    let pods = match kind.as_str() {
        "List" | "PodList" => record::json::<List>(text.as_bytes()).map_err(shape)?.items,
        "Pod" => vec![record::json(text.as_bytes()).map_err(shape)?],
        _ => return Err(not_a_pod("kind".to_owned(), &kind)),
    };
    let mut listing = Listing::default();
    for (at, pod) in pods.iter().enumerate() {
        if let Some(kind) = pod.kind.as_deref().filter(|kind| *kind != "Pod") {
            return Err(not_a_pod(format!("items[{at}].kind"), kind));
        }
        add_pod(&mut listing, pod);
    }
    Ok(listing)
}

fn not_a_pod(place: String, kind: &str) -> ListingError {
    ListingError::Unknown { place, what: format!("`{kind}`, where pods run things") }
}

/// Every container of a pod that has not ended, whatever is told of it so far: by what its status says that it runs, else
/// by what its spec says that it is to run. The images that it mounts, by what its spec says, as long as a container may run.
fn add_pod(listing: &mut Listing, pod: &Pod) {
    let (spec, status) = (&pod.spec, &pod.status);
    let containers = [&spec.containers, &spec.init_containers, &spec.ephemeral_containers];
    let wanted: Vec<&Container> = containers.into_iter().flatten().collect();
    let statuses =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    let statuses: Vec<&ContainerStatus> = statuses.into_iter().flatten().collect();
    let ended = matches!(status.phase.as_str(), "Succeeded" | "Failed");
    let pod_place =
        format!("{}/{}", pod.metadata.namespace.as_deref().unwrap_or("default"), pod.metadata.name);
    for status in &statuses {
        if ended && status.state.running.is_none() {
            listing.idle += 1;
            continue;
        }
        // By the name that was asked for: what the node calls it may be another of its names.
        let asked = wanted.iter().find(|container| container.name == status.name);
        let name = asked.and_then(|container| container.image.as_deref()).unwrap_or(&status.image);
        let runs = pinned(&status.image_id).or_else(|| pinned(name)).or_else(|| pinned(&status.image));
        listing.add(format!("{pod_place}/{}", status.name), Image::of(Some(name), runs, ONLY_ID));
    }
    let untold =
        wanted.iter().filter(|container| statuses.iter().all(|status| status.name != container.name));
    for container in untold {
        if ended {
            listing.idle += 1;
            continue;
        }
        let name = container.image.as_deref();
        let place = format!("{pod_place}/{}", container.name);
        listing.add(place, Image::of(name, name.and_then(pinned), NOT_TOLD));
    }
    let unmounted = ended && statuses.iter().all(|status| status.state.running.is_none());
    for volume in &spec.volumes {
        let Some(image) = &volume.image else { continue };
        if unmounted {
            listing.idle += 1;
            continue;
        }
        let name = image.reference.as_deref();
        let place = format!("{pod_place}/volumes/{}", volume.name);
        listing.add(place, Image::of(name, name.and_then(pinned), NOT_TOLD));
    }
    if wanted.is_empty() && statuses.is_empty() {
        match ended {
            true => listing.idle += 1,
            false => listing.add(pod_place, Image::of(None, None, NOT_TOLD)),
        }
    }
}

#[derive(Deserialize)]
struct Cri {
    containers: Option<Vec<CriContainer>>,
    images: Option<Vec<CriImage>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CriContainer {
    id: String,
    metadata: CriMetadata,
    image: CriSpec,
    #[serde(default)]
    image_ref: String,
    state: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct CriMetadata {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CriSpec {
    image: String,
    #[serde(default)]
    user_specified_image: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CriImage {
    id: String,
    #[serde(default)]
    repo_tags: Vec<String>,
    #[serde(default)]
    repo_digests: Vec<String>,
}

/// `crictl ps -o json`, `crictl images -o json`.
pub(super) fn crictl(text: &str) -> Result<Listing, ListingError> {
    let cri: Cri =
        record::json(text.as_bytes()).map_err(|source| ListingError::Shape { tool: CRICTL, source })?;
    let mut listing = Listing::default();
    if cri.containers.is_none() && cri.images.is_none() {
        let what = "neither `containers` nor `images`".to_owned();
        return Err(ListingError::Unknown { place: "the object".to_owned(), what });
    }
    for container in cri.containers.iter().flatten() {
        // What is made is about to run, and what has an unknown state may.
        if container.state == "CONTAINER_EXITED" {
            listing.idle += 1;
            continue;
        }
        let asked = [&container.image.user_specified_image, &container.image.image];
        let name = asked.into_iter().find(|name| !name.is_empty() && !super::is_id(name));
        let runs = pinned(&container.image_ref).or_else(|| pinned(&container.image.image));
        let label = |name: &str| container.labels.get(&format!("io.kubernetes.{name}"));
        let place = match (label("pod.namespace"), label("pod.name")) {
            (Some(namespace), Some(pod)) => format!("{namespace}/{pod}/{}", container.metadata.name),
            _ => format!("{} {}", container.metadata.name, short(&container.id)),
        };
        let name = name.unwrap_or(&container.image.image);
        listing.add(place, Image::of(Some(name), runs, ONLY_ID));
    }
    for image in cri.images.iter().flatten() {
        let place = format!("image {}", short(&image.id));
        let known = names(&image.repo_tags, &image.repo_digests);
        if known.is_empty() {
            listing.add(place.clone(), Image::of(Some(&image.id), None, ONLY_ID));
        }
        known.into_iter().for_each(|name| listing.add(place.clone(), Image::Known(name)));
    }
    Ok(listing)
}

/// The beginning of an id, as the tools show it.
pub(super) fn short(id: &str) -> String {
    id.strip_prefix("sha256:").unwrap_or(id).chars().take(12).collect()
}
