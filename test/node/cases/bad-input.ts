/** What people get wrong: each is told with file, field, value and what to do, and disturbs nobody. */
import assert from 'node:assert/strict';
import { until } from '../../../scripts/lib/install-limpet.ts';
import type { Board } from '../board.ts';
import { container, isReady, live, nameOf, podText, together } from '../board.ts';
import type { Cases } from './case.ts';

const HEAD = 'apiVersion: v1\nkind: Pod\nmetadata:\n  name: bad\nspec:\n';
const ONE = `${HEAD}  containers:\n    - name: main\n      image: limpet.local/busybox:1\n`;

type Bad = { readonly text: string; readonly says: RegExp };

/** By file name. */
const BAD: Readonly<Record<string, Bad>> = {
  malformed: {
    text: `${HEAD}  containers: [ {name: a`,
    says: /malformed\.yaml:\d+: is no valid YAML: .+; .+/,
  },
  'wrong-type': {
    text: `${ONE}      command: run\n`,
    says: /wrong-type\.yaml:9: spec\.containers\[0\]\.command: must be a list, not text; .+/,
  },
  'wrong-number': {
    text: `${ONE}  terminationGracePeriodSeconds: soon\n`,
    says: /wrong-number\.yaml:9: spec\.terminationGracePeriodSeconds: "soon": must be a whole number/,
  },
  unknown: {
    text: `${ONE}      comand: [a]\n`,
    says: /unknown\.yaml:9: spec\.containers\[0\]\.comand: Container has no such field; did you mean "command"\?/,
  },
  unsupported: {
    text: `${ONE}      volumeDevices: [{ name: x, devicePath: /dev/x }]\n`,
    says: /unsupported\.yaml:9: spec\.containers\[0\]\.volumeDevices: is not carried out by limpet yet; .+/,
  },
  'a-secret': {
    text: `${ONE}  volumes: [{ name: s, secret: { secretName: login } }]\n`,
    says: /a-secret\.yaml:9: spec\.volumes\[0\]\.secret: "login": (static pods|pods that are applied on the node) may not reference secrets; .+/,
  },
  'no-label': {
    text: ONE.replace('name: main', 'name: Main.1'),
    says: /no-label\.yaml:7: spec\.containers\[0\]\.name: "Main\.1": a lowercase RFC 1123 label/,
  },
  'no-name': {
    text: ONE.replace('name: bad', 'name: Not_A_Name'),
    says: /no-name\.yaml:4: metadata\.name: "Not_A_Name": a lowercase RFC 1123/,
  },
  'no-volume': {
    text: `${ONE}      volumeMounts: [{ name: gone, mountPath: /x }]\n`,
    says: /no-volume\.yaml:9: spec\.containers\[0\]\.volumeMounts\[0\]\.name: "gone": not found; .+/,
  },
  outside: {
    text: `${ONE}  volumes: [{ name: up, hostPath: { path: /var/../../etc } }]\n`,
    says: /outside\.yaml:9: spec\.volumes\[0\]\.hostPath\.path: "\/var\/\.\.\/\.\.\/etc": must not contain '\.\.'/,
  },
  'same-port': {
    text: `${ONE}      ports: [{ containerPort: 80, hostPort: 81 }, { containerPort: 82, hostPort: 81 }]\n`,
    says: /same-port\.yaml:9: spec\.containers\[0\]\.ports\[1\]\.hostPort: 81: is taken by another port/,
  },
  twice: {
    text: `${ONE}---\n${ONE}`,
    says: /twice\.yaml:\d+: document 2: metadata\.name: the pod default\/bad\S* is there twice/,
  },
  'other-kind': {
    text: 'apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: x }\n',
    says: /other-kind\.yaml:2: kind: "Deployment": limpet runs pods and nothing else; .+/,
  },
};

/** What is no manifest at all, as the folder tells of it. */
const TRAPS: Readonly<Record<string, RegExp>> = {
  'large.yaml': /has 10485760 bytes, more than the 1048576 that a manifest may have; split it/,
  'folder.yaml': /is a directory, .+; .+/,
  'pipe.yaml': /is a fifo and not a file; remove it/,
  'dangling.yaml': /is a link to something that is not there; repair or remove it/,
};

const MAKE_TRAPS = `cd /root/bad && truncate -s 10485760 large.yaml && mkdir -p folder.yaml &&
  rm -f pipe.yaml && mkfifo pipe.yaml && ln -sfn /no/such dangling.yaml`;

async function badInput(board: Board): Promise<void> {
  const ports = { ports: [{ containerPort: 80, hostPort: 8099 }] };
  await board.apply(
    together(
      podText('bystander', undefined),
      podText('holder', undefined, { containers: [container({ more: ports })] }),
    ),
  );
  await board.untilPods('the bystanders run', (pods) => pods.length === 2 && pods.every(isReady));
  const before = await board.processes();
  await board.sh('rm -rf /root/bad && mkdir -p /root/bad');
  for (const [name, { text }] of Object.entries(BAD)) {
    await board.tell(`cat > /root/bad/${name}.yaml`, text);
  }
  await board.sh(MAKE_TRAPS);
  await byCommand(board);
  await byFolder(board);
  await portTaken(board);
  assert.deepEqual(await board.processes(), before, 'the bystanders went on');
  assert.equal(live(await board.pods(), 'bystander')?.status.containerStatuses[0]?.restartCount, 0);
}

/** One command with all files: a bad one does not keep the next from being taken. */
async function byCommand(board: Board): Promise<void> {
  const files = Object.keys(BAD).map((name) => `-f /root/bad/${name}.yaml`);
  const traps = ['large.yaml', 'folder.yaml', 'dangling.yaml'].map(
    (name) => `-f /root/bad/${name}`,
  );
  await board.tell('cat > /root/bad/good.yaml', podText('good', undefined));
  const { code, stdout, stderr } = await board.tell(
    `limpet apply ${[...files, ...traps].join(' ')} -f /root/bad/good.yaml`,
  );
  assert.equal(code, 1);
  assert.equal(stdout, 'pod/good created\n');
  await board.sh('rm /root/bad/good.yaml');
  const parts = stderr.split(/^(?=limpet: )/m);
  for (const [name, { says }] of Object.entries(BAD)) {
    const part = parts.find((one) => one.startsWith(`limpet: /root/bad/${name}.yaml: `)) ?? '';
    assert.match(part, /nothing was changed/, `${name}: ${stderr}`);
    assert.match(part, says, name);
  }
  const refused = (await board.events()).filter(({ object }) => object.name === 'apply');
  assert.ok(
    refused.some(({ message }) => message.includes('terminationGracePeriodSeconds: "soon"')),
    JSON.stringify(refused),
  );
  assert.match(stderr, /large\.yaml: is larger than 1048576 bytes, the most a manifest has/);
  assert.match(stderr, /folder\.yaml: is a directory: name the files in it/);
  assert.match(stderr, /dangling\.yaml: there is no such file/);
  const alone = await board.tell('limpet apply -f /root/bad/unknown.yaml');
  assert.equal(alone.code, 1);
  assert.equal(alone.stdout, '');
}

async function byFolder(board: Board): Promise<void> {
  const count = Object.keys(BAD).length + Object.keys(TRAPS).length;
  await board.sh('cp -a /root/bad/. /etc/kubernetes/manifests/');
  const { manifestErrors } = await until(
    'every bad manifest is told of',
    () => board.status(),
    (report) => new Set(report.manifestErrors.map(({ path }) => path)).size >= count,
    { timeoutMs: 60_000, everyMs: 1000 },
  );
  const expected = {
    ...Object.fromEntries(
      Object.entries(BAD).map(([name, { says }]) => [
        `${name}.yaml`,
        // In the folder the file has a column, or a field, of its own.
        new RegExp(says.source.replace(/^[a-z-]+\\\.yaml:/, '').replace(/^(\d+|\\d\+): /, '')),
      ]),
    ),
    ...TRAPS,
  };
  const events = await board.events();
  const shown = await board.sh('limpet status; limpet events');
  for (const [file, says] of Object.entries(expected)) {
    const path = `/etc/kubernetes/manifests/${file}`;
    const mine = manifestErrors.filter((error) => error.path === path);
    assert.ok(
      mine.some(({ message }) => says.test(message)),
      `${file}: ${JSON.stringify(mine)}`,
    );
    const event = events.find(({ object }) => object.kind === 'Manifest' && object.name === path);
    assert.match(event?.message ?? '', says, `event of ${file}`);
    assert.ok(shown.includes(path), `limpet status and events show ${file}`);
  }
  assert.ok(!(await board.pods()).some((report) => nameOf(report).startsWith('bad')));
  // A good one in their midst is taken, and two files with one pod give it once.
  const good = podText('amid', undefined);
  await board.tell('cat > /etc/kubernetes/manifests/amid.yaml', good);
  const name = `amid-${board.node.name}`;
  await board.untilPods('the good one amid them runs', (pods) => {
    const found = live(pods, name);
    return found !== undefined && isReady(found);
  });
  const uid = live(await board.pods(), name)?.pod.metadata.uid;
  const copy = '#amid.yaml#';
  await board.tell(`cat > '/etc/kubernetes/manifests/${copy}'`, good);
  await until(
    'the second file with the same pod is told of',
    () => board.status(),
    (report) => report.manifestErrors.some(({ path }) => path.endsWith(`/${copy}`)),
    { timeoutMs: 30_000, everyMs: 1000 },
  );
  assert.equal(live(await board.pods(), name)?.pod.metadata.uid, uid, 'the copy takes nothing');
  await board.sh('find /etc/kubernetes/manifests -mindepth 1 -delete');
  await until(
    'the errors go with their files',
    () => board.status(),
    (report) => report.manifestErrors.length === 0,
    {
      timeoutMs: 60_000,
      everyMs: 1000,
    },
  );
  await board.untilPods('its pod is gone', (pods) => !pods.some((p) => nameOf(p) === name));
  await board.delete('good', 1);
  await board.untilPods('the good pod is gone', (pods) => pods.length === 2);
}

async function portTaken(board: Board): Promise<void> {
  const ports = { ports: [{ containerPort: 81, hostPort: 8099 }] };
  await board.apply(podText('late', undefined, { containers: [container({ more: ports })] }));
  const pods = await board.untilPods(
    'the second pod with the port is refused',
    (seen) => live(seen, 'late')?.status.phase === 'Failed',
  );
  const { status } = live(pods, 'late')!;
  assert.equal(status.reason, 'NodePorts');
  assert.match(status.message ?? '', /port 8099\/TCP of the host is taken by pod default\/holder/);
  const events = await board.events('late');
  assert.ok(events.some(({ reason }) => reason === 'NodePorts'));
  await board.delete('late', 1);
  await board.untilPods('it is gone', (seen) => !seen.some((p) => nameOf(p) === 'late'));
}

export const badInputCases: Cases = { 'bad input is told of and disturbs nobody': badInput };
