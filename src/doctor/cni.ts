/** The network plugins: a configuration, and the programs that it names. */
import { accessSync, constants, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Finding } from '../server/api.ts';
import { readText, reporter, type Check, type Machine } from './machine.ts';

const { ok, degraded, failed } = reporter('cni');
const CONTAINERD_CONFIG = '/etc/containerd/config.toml';
const DEFAULT_CONF_DIR = '/etc/cni/net.d';
const DEFAULT_BIN_DIR = '/opt/cni/bin';
/** Where packages put the plugins: upstream, and Debian. */
const KNOWN_BIN_DIRS = [DEFAULT_BIN_DIR, '/usr/lib/cni'];
const INSTALL = 'sudo apt install containernetworking-plugins';

export const cniCheck: Check = {
  name: 'cni',
  run(machine) {
    const config = readText(machine, CONTAINERD_CONFIG) ?? '';
    const confDir = configurationDirectory(config);
    const configured = [...setting(config, 'bin_dirs'), ...setting(config, 'bin_dir')];
    const binDirs = configured.length > 0 ? configured : [DEFAULT_BIN_DIR];
    const found = firstConfiguration(machine, confDir);
    if (typeof found === 'string') return [failed(found, exampleRemedy(confDir))];
    const missing = ['loopback', ...found.plugins].filter(
      (plugin) => !binDirs.some((directory) => isProgram(machine, join(directory, plugin))),
    );
    if (missing.length > 0) return [missingPlugins(machine, missing, binDirs)];
    const findings: Finding[] = [ok(`${found.path} (${found.plugins.join(', ')})`)];
    if (!found.plugins.includes('portmap')) {
      const message = `${found.path} has no portmap plugin: hostPort of pods will not work`;
      findings.push(
        degraded(message, 'add {"type":"portmap","capabilities":{"portMappings":true}}'),
      );
    }
    return findings;
  },
};

function configurationDirectory(config: string): string {
  return setting(config, 'conf_dir')[0] ?? DEFAULT_CONF_DIR;
}

/** What to do when the runtime has no network. */
export function networkRemedy(machine: Machine): string {
  const directory = configurationDirectory(readText(machine, CONTAINERD_CONFIG) ?? '');
  const found = firstConfiguration(machine, directory);
  if (typeof found === 'string') return `put a CNI configuration into ${directory}`;
  // It watches the directory, but not for a file that is moved into it.
  return `if it has not read ${found.path}: sudo systemctl restart containerd`;
}

function missingPlugins(
  machine: Machine,
  missing: readonly string[],
  binDirs: readonly string[],
): Finding {
  const message = `not found in ${binDirs.join(', ')}: ${missing.join(', ')}`;
  const elsewhere = KNOWN_BIN_DIRS.find(
    (directory) =>
      !binDirs.includes(directory) &&
      missing.every((plugin) => isProgram(machine, join(directory, plugin))),
  );
  if (elsewhere === undefined) return failed(message, INSTALL);
  return failed(
    message,
    `they are in ${elsewhere}: set bin_dir = "${elsewhere}" in ${CONTAINERD_CONFIG}, then ` +
      'sudo systemctl restart containerd',
  );
}

type Plugin = { readonly type?: unknown; readonly ipam?: { readonly type?: unknown } };

type Configuration = { readonly path: string; readonly plugins: readonly string[] };

/** The configuration that containerd takes: the first by name. A string says what is wrong. */
function firstConfiguration(machine: Machine, directory: string): Configuration | string {
  let names: readonly string[];
  try {
    names = readdirSync(join(machine.root, directory)).sort();
  } catch {
    return `there is no CNI configuration: ${directory} cannot be read`;
  }
  const name = names.find((candidate) => /\.(conf|conflist|json)$/.test(candidate));
  if (name === undefined) return `there is no CNI configuration in ${directory}`;
  const path = join(directory, name);
  try {
    const parsed = JSON.parse(readText(machine, path) ?? '') as Plugin & {
      readonly plugins?: readonly Plugin[];
    };
    const plugins = parsed.plugins ?? [parsed];
    const types = plugins.flatMap((plugin) => [plugin.type, plugin.ipam?.type]);
    const known = types.filter((type): type is string => typeof type === 'string' && type !== '');
    return known.length > 0 ? { path, plugins: [...new Set(known)] } : `${path} names no plugin`;
  } catch {
    return `${path} is not valid JSON`;
  }
}

function exampleRemedy(confDir: string): string {
  return `${INSTALL}, and put a bridge configuration into ${confDir}, such as 10-limpet.conflist`;
}

/** Values of a key of TOML, one or a list. What is commented out does not count. */
function setting(config: string, key: string): readonly string[] {
  const line = new RegExp(`^[ \\t]*${key}[ \\t]*=[ \\t]*(.*)$`, 'm').exec(config)?.[1] ?? '';
  const values = [...line.matchAll(/"([^"]*)"|'([^']*)'/g)];
  return values.map((value) => value[1] ?? value[2] ?? '').filter((value) => value !== '');
}

function isProgram(machine: Machine, path: string): boolean {
  try {
    accessSync(join(machine.root, path), constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
