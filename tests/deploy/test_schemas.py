"""Files of deploy/ that no program of Debian's can start: valid by their published schemas, and every flag, variable,
port, path and probe in them is the server's."""

import json
import re
import subprocess

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

from support import builds

pytestmark = [pytest.mark.check_only, pytest.mark.only_on("release")]
DEPLOY = builds.TOP / "deploy"
TOOLS = builds.TOP / "build" / "tools"
KUBERNETES = DEPLOY / "kubernetes"
PATHS = json.loads((builds.TOP / "proto" / "openapi.json").read_text())["paths"]


def documents(path):
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def by_kind(path):
    return {each["kind"]: each for each in documents(path)}


def validated(path):
    ran = subprocess.run(["node", builds.TOP / "tests" / "deploy" / "kubernetes.mjs", TOOLS, path], capture_output=True,
                         text=True, check=False)
    return ran.returncode, ran.stdout + ran.stderr


@pytest.mark.parametrize("name", ["base/dien.yaml", "haproxy/proxy.yaml"])
def test_kubernetes_schemas(name):
    status, output = validated(KUBERNETES / name)
    assert status == 0, output
    assert output.count("ok ") == len(documents(KUBERNETES / name))


def test_the_schema_finds_mistakes(tmp_path):
    for right, wrong in [("replicas: 3", "replicas: three"), ("containerPort: 8080", "containerPort: http")]:
        file = tmp_path / "dien.yaml"
        file.write_text((KUBERNETES / "base" / "dien.yaml").read_text().replace(right, wrong))
        assert validated(file)[0] == 1, wrong


def test_kustomizations_name_what_is_there():
    for folder in ("base", "haproxy"):
        (kustomization,) = documents(KUBERNETES / folder / "kustomization.yaml")
        files = [file for generated in kustomization.get("configMapGenerator", ()) for file in generated["files"]]
        for name in [*kustomization["resources"], *files]:
            assert (KUBERNETES / folder / name).exists(), name


def environment_of(help_text):
    """Each variable that the server reads: its flags in capitals."""
    return {"DIEN_" + flag.upper().replace("-", "_") for flag in re.findall(r"^ +--([a-z0-9-]+)", help_text, re.M)}


def test_kubernetes_is_the_server_s(build):
    help_text = subprocess.run([build.server, "--help"], capture_output=True, text=True, check=True).stdout
    kinds = by_kind(KUBERNETES / "base" / "dien.yaml")
    variables = kinds["ConfigMap"]["data"]
    assert set(variables) <= environment_of(help_text)
    pod = kinds["StatefulSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    port = container["ports"][0]["containerPort"]
    assert variables["DIEN_LISTEN"].endswith(f":{port}") and kinds["Service"]["spec"]["ports"][0]["port"] == port
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in PATHS
        assert container[probe]["httpGet"]["port"] in (port, container["ports"][0]["name"])
    drain = float(variables["DIEN_DRAIN_DELAY"]) + float(variables["DIEN_DRAIN_TIMEOUT"])
    assert drain < pod["terminationGracePeriodSeconds"]
    assert container["resources"]["requests"] == container["resources"]["limits"]
    (volume,) = pod["volumes"]
    (mount,) = container["volumeMounts"]
    assert mount["name"] == volume["name"] and variables["DIEN_MODEL"].startswith(mount["mountPath"] + "/")
    assert container["securityContext"]["readOnlyRootFilesystem"] and pod["securityContext"]["runAsNonRoot"]


def test_kubernetes_labels_fit():
    kinds = by_kind(KUBERNETES / "base" / "dien.yaml")
    labels = kinds["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    selectors = [kinds["StatefulSet"]["spec"]["selector"]["matchLabels"], kinds["Service"]["spec"]["selector"],
                 kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
                 kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]]
    assert all(selector == labels for selector in selectors)
    assert kinds["StatefulSet"]["spec"]["serviceName"] == kinds["Service"]["metadata"]["name"]
    proxies = by_kind(KUBERNETES / "haproxy" / "proxy.yaml")["Deployment"]["spec"]["template"]["metadata"]["labels"]
    allowed = [source["podSelector"]["matchLabels"] for rule in kinds["NetworkPolicy"]["spec"]["ingress"]
               for source in rule["from"] if "podSelector" in source]
    assert proxies in allowed
    scaler = kinds["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"] == {key: kinds["StatefulSet"][key] for key in ("apiVersion", "kind")} | {
        "name": kinds["StatefulSet"]["metadata"]["name"]}


SERVERS = re.compile(r"^    server dien-.*\n", re.M)


def test_the_proxy_of_kubernetes_is_the_one_that_is_tested(tmp_path):
    """All but the servers' lines, the DNS and the page of statistics; HAProxy itself accepts the file."""
    tested = (DEPLOY / "haproxy" / "haproxy.cfg").read_text()
    file = KUBERNETES / "haproxy" / "haproxy.cfg"
    own = file.read_text()
    scaler = by_kind(KUBERNETES / "base" / "dien.yaml")["HorizontalPodAutoscaler"]["spec"]
    assert len(SERVERS.findall(own)) == scaler["maxReplicas"]
    assert len(set(re.findall(r" id (\d+)", own))) == scaler["maxReplicas"]
    without = [SERVERS.sub("", text[text.index("global\n"):]) for text in (tested, own)]
    assert without[0].replace("bind 127.0.0.1:8404", "bind :8404") == without[1]
    ran = subprocess.run(["haproxy", "-c", "-f", file], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ran.returncode == 0, ran.stderr


def test_compose_is_the_server_s(build):
    help_text = subprocess.run([build.server, "--help"], capture_output=True, text=True, check=True).stdout
    (compose,) = documents(DEPLOY / "compose.yaml")
    servers = {name: each for name, each in compose["services"].items() if each["image"] == "dien-server"}
    assert set(servers) == {f"dien-{number}" for number in (1, 2, 3)}
    for each in servers.values():
        assert set(each["environment"]) <= environment_of(help_text)
        assert each["environment"]["DIEN_LISTEN"].endswith(":8080")
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            assert (DEPLOY / volume.split(":")[0]).exists(), volume
    named = set(re.findall(r"dien-\d(?=:8080)", (DEPLOY / "haproxy" / "haproxy.cfg").read_text()))
    assert named == set(servers)
    assert compose["services"]["haproxy"]["ports"] == ["8000:8000"]


@pytest.fixture(scope="module")
def envoy(tmp_path_factory):
    """ParseDict for Envoy's Bootstrap, whose unknown fields are errors."""
    folder = tmp_path_factory.mktemp("envoy")
    output = folder / "descriptors"
    root = TOOLS / "node_modules" / "@grpc" / "grpc-js-xds" / "deps"
    extensions = ("filters/network/http_connection_manager/v3/http_connection_manager.proto",
                  "filters/http/router/v3/router.proto", "retry/host/previous_hosts/v3/previous_hosts.proto")
    # The package's rules for values are older than the options that Envoy's files use; these are not looked at here.
    rules = (root / "protoc-gen-validate" / "validate" / "validate.proto").read_text()
    (folder / "validate").mkdir()
    (folder / "validate" / "validate.proto").write_text(
        re.sub(r"^message \w*Rules \{", r"\g<0>\n  optional bool ignore_empty = 999;", rules, flags=re.M))
    includes = [f"-I{path}" for path in ("/usr/include", "envoy-api", "xds", "googleapis", folder)]
    subprocess.run(["protoc", *includes, "--include_imports", f"--descriptor_set_out={output}",
                    "envoy/config/bootstrap/v3/bootstrap.proto", *[f"envoy/extensions/{name}" for name in extensions]],
                   cwd=root, check=True)
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes()).file:
        pool.Add(file)
    bootstrap = message_factory.MessageFactory(pool).GetPrototype(
        pool.FindMessageTypeByName("envoy.config.bootstrap.v3.Bootstrap"))
    return lambda document: json_format.ParseDict(document, bootstrap(), descriptor_pool=pool)


def test_envoy_s_schema(envoy):
    text = (DEPLOY / "envoy" / "envoy.yaml").read_text()
    parsed = envoy(yaml.safe_load(text))
    (cluster,) = parsed.static_resources.clusters
    assert cluster.health_checks[0].http_health_check.path in PATHS
    mistakes = [("num_retries", "number_of_retries"), ("RING_HASH", "RING"), ("previous_hosts.v3.Prev", "previous.v3.Prev")]
    for right, wrong in mistakes:
        with pytest.raises((json_format.ParseError, KeyError, TypeError)):
            envoy(yaml.safe_load(text.replace(right, wrong)))


def test_grafana_s_files():
    (sources,) = documents(DEPLOY / "grafana" / "sources.yaml")
    (dashboards,) = documents(DEPLOY / "grafana" / "dashboards.yaml")
    (compose,) = documents(DEPLOY / "compose.yaml")
    assert sources["datasources"][0]["url"] == "http://prometheus:9090" and "prometheus" in compose["services"]
    folder = dashboards["providers"][0]["options"]["path"]
    assert any(volume.split(":")[1].startswith(folder) for volume in compose["services"]["grafana"]["volumes"])
