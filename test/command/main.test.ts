import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { VERSION } from '../../src/base/version.ts';
import { COMMANDS } from '../../src/command/index.ts';
import { limpet } from './cli.ts';

test('the version is that of package.json', async () => {
  const text = readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8');
  assert.equal((JSON.parse(text) as { version: string }).version, VERSION);
  const { code, out } = await limpet(['version']);
  assert.equal(code, 0);
  assert.match(
    out,
    new RegExp(`^limpet ${VERSION.replaceAll('.', '\\.')} \\(Kubernetes v1\\.36\\.`),
  );
  const json = JSON.parse((await limpet(['version', '-ojson'])).out) as { node: string };
  assert.equal(json.node, process.versions.node);
});

test('every command has a help with its options and examples', async () => {
  for (const { name, load } of COMMANDS) {
    const command = await load();
    assert.equal(command.name, name);
    assert.ok(command.examples.length > 0, name);
    const { code, out } = await limpet([name, '--help']);
    assert.equal(code, 0);
    for (const option of Object.keys(command.options))
      assert.ok(out.includes(`--${option}`), option);
    for (const [line] of command.examples) assert.ok(out.includes(line), line);
    for (const text of out.split('\n')) assert.ok(text.length <= 120, text);
  }
});

test('a mistake on the command line ends with 2 and says what was meant', async () => {
  const cases: [string[], RegExp][] = [
    [[], /Usage: limpet COMMAND/],
    [['stauts'], /did you mean "limpet status"/],
    [['pods', '--otput', 'json'], /unknown option --otput[^]*did you mean --output/],
    [['pods', '-x'], /unknown option -x/],
    [['pods', '--output'], /--output needs a value/],
    [['pods', '-o', 'xml'], /--output is one of wide, json, yaml, not "xml"/],
    [['pods', 'Not_A_Name'], /no name of a pod/],
    [['run', '--max-pods', '-1'], /invalid argument "-1" for "--max-pods" flag/],
    [['run', '--log-level', 'loud'], /one of debug, info, warn, error/],
    [['run', '--cluster-dns', '10.0.0.x'], /is not a valid IP address/],
    [['run', 'web'], /unknown command web[^]*only flags here/],
    [['logs'], /of which pod/],
    [['apply'], /which manifest/],
    [['apply', 'web.yaml'], /did you mean: limpet apply -f web.yaml/],
    [['delete', 'web'], /did you mean: limpet delete pod web/],
    [['delete', 'pod', 'web', '--now', '--grace-period=3'], /exclude each other/],
    [['get', 'deployments'], /knows pods, events and node/],
  ];
  for (const [args, expected] of cases) {
    const { code, out, err } = await limpet(args);
    assert.equal(code, 2, args.join(' '));
    assert.match(err, expected);
    assert.equal(out, '');
  }
});

test('an agent that cannot start says why, without a trace', async () => {
  const { code, out, err } = await limpet(['run', '--root-dir=/dev/null/limpet']);
  assert.deepEqual([code, out], [1, '']);
  assert.match(err, /^limpet: can't make the directory \/dev\/null\/limpet: ENOTDIR[^\n]*\n$/m);
  assert.doesNotMatch(err, /unexpected|\n    at /);
});
