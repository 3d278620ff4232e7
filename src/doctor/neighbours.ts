/** Who else wants to manage pods here, and the folder of static pods. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { faultOf } from '../base/failure.ts';
import { readText, reporter, type Check } from './machine.ts';

/** Names of processes that start and remove pods in the same runtime. */
const RIVALS = ['kubelet', 'k3s', 'k3s-server', 'k3s-agent', 'k0s', 'edgecore', 'kubelite'];

export const rivalsCheck: Check = {
  name: 'other-agents',
  run(machine) {
    const { ok, failed } = reporter('other-agents');
    let pids: readonly string[] = [];
    try {
      pids = readdirSync(join(machine.root, '/proc')).filter((name) => /^\d+$/.test(name));
    } catch {
      // Without /proc nothing runs here at all.
    }
    const names = pids.map((pid) => readText(machine, `/proc/${pid}/comm`));
    const rivals = RIVALS.filter((rival) => names.includes(rival));
    if (rivals.length === 0) return [ok('none')];
    const message = `${rivals.join(', ')} runs here too: it would remove what limpet starts`;
    return [failed(message, 'stop one of the two: they cannot share a container runtime')];
  },
};

export const manifestsCheck: Check = {
  name: 'manifests',
  run(machine) {
    const { ok, degraded, failed } = reporter('manifests');
    const path = machine.manifestDirectory;
    try {
      const found = statSync(join(machine.root, path));
      if (!found.isDirectory()) return [failed(`${path} is not a directory`, `sudo rm ${path}`)];
      if ((found.mode & 0o022) !== 0) {
        const message = `${path} can be written by others than root: who can start pods is root`;
        return [failed(message, `sudo chmod go-w ${path}`)];
      }
      return [ok(path)];
    } catch (error) {
      return [degraded(faultOf(error).message, `sudo mkdir -p ${path}`)];
    }
  },
};
