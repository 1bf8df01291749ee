"""The same as site.yml, for pyinfra: its own operations, one for each thing."""

from pyinfra import host
from pyinfra.operations import files, server

data = host.data.values
root = data["root"]

if "voboxes" in host.groups:
    for folder in data["folders"]:
        files.directory(path=f"{root}/{folder['path']}", mode=folder["mode"])
    files.directory(path=data["runtime"], mode="0755")
    files.unarchive(src=data["archive"], dest=data["runtime"], creates=f"{data['runtime']}/bin/python3")
    for file in data["files"]:
        files.put(src=file["source"], dest=f"{root}/{file['path']}", mode=file["mode"])
    agent = data["agent"]
    files.put(src=agent, dest=f"{root}/data/www/agent/{agent.rsplit('/', 1)[1]}", mode="0755")
    server.shell(name="service", commands=[f"{root}/bin/start"])

# The same for all hosts: pyinfra begins no later operation of the workers before the VO box had its own.
answers = " && ".join(f"</dev/tcp/{data['box']}/{port}" for port in (8445, 8446, 8080))
waits = f"timeout 60 bash -c 'until {answers}; do sleep 0.1; done' 2>/dev/null"
server.shell(name="VO box answers", commands=[waits])

if "workers" in host.groups:
    for folder in data["folders"]:
        files.directory(path=f"{root}/{folder['path']}", mode=folder["mode"])
    files.put(src=data["ca"], dest=f"{root}/etc/tls/ca.pem", mode="0644")
    names = ("root", "machine_group", "clustermonitor", "machine", "site", "slots", "token", "address")
    told = {key: data[key] for key in names}
    for source, place, mode in (
        ("machine.json", "machine.json", "0644"),
        ("agent.json", "etc/agent.json", "0600"),
        ("service.sh", "bin/service", "0755"),
    ):
        files.template(src=f"{data['here']}/templates/{source}.j2", dest=f"{root}/{place}", mode=mode, **told)
    files.download(
        src=data["agent_url"], dest=f"{root}/bin/agent", sha256sum=data["agent_sha256"], mode="0755"
    )
    server.shell(name="service", commands=[f"{root}/bin/service"])
