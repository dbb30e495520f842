"""The recipes: the manifest for Kubernetes fits the image and the gateway."""

import re
from pathlib import Path

import yaml
from docs_pages import ROOT, blocks

from d_back_core import config as configuration


def test_the_manifest_for_kubernetes(tmp_path: Path) -> None:
    """Its configuration is valid, and what it mounts, probes and names is there."""
    (block,) = blocks("recipes.md", "yaml")
    documents = list(yaml.safe_load_all(block.text))
    config_map, deployment, service = documents
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    image = (ROOT / "Containerfile").read_text()
    # The image looks for the configuration in its working directory, and runs as that user.
    assert f"WORKDIR {mounts['config']}\n" in image
    assert f"USER {pod['spec']['securityContext']['runAsUser']}:" in image
    text = config_map["data"]["d-back.toml"]
    (secret,) = re.findall(r'file = "([^"]+)"', text)
    assert secret.startswith(mounts["discord"])
    token = tmp_path / "token"
    token.write_text("MTIz.abc.def")
    path = tmp_path / "d-back.toml"
    path.write_text(text.replace(secret, str(token)))
    config = configuration.load(path, {})
    assert pod["spec"]["terminationGracePeriodSeconds"] > config.gateway.drain_time + 10
    (port,) = container["ports"]
    assert f"EXPOSE {port['containerPort']}\n" in image
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    assert service["spec"]["selector"] == pod["metadata"]["labels"]
    assert {each["name"] for each in pod["spec"]["volumes"]} == mounts.keys()
    probes = {container[each]["httpGet"]["path"] for each in ("livenessProbe", "readinessProbe")}
    assert probes == {"/healthz", "/readyz"}
