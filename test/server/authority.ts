/** A certificate authority of OpenSSL's, in a directory of its own. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { KeyPair } from '../../src/server/self-signed.ts';

const run = promisify(execFile);

export const openssl = (...args: string[]) => run('openssl', args);

export type Wanted = {
  /** As in `/O=system:masters/CN=admin`. */
  readonly subject: string;
  readonly usage?: 'clientAuth' | 'serverAuth';
  readonly names?: string;
  /** `YYYYMMDDHHMMSSZ` */
  readonly from?: string;
  readonly to?: string;
};

export type Authority = AsyncDisposable & {
  /** Its own certificate. */
  readonly cert: string;
  readonly directory: string;
  issue(wanted: Wanted): Promise<KeyPair>;
};

export async function createAuthority(name: string): Promise<Authority> {
  const directory = await mkdtemp(join(tmpdir(), 'limpet-ca-'));
  const at = (file: string) => join(directory, file);
  const subject = `/CN=${name}`;
  await openssl(
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
    ...['-keyout', at('ca.key'), '-out', at('ca.crt'), '-days', '30', '-subj', subject],
  );
  const config = [
    '[ca]\ndefault_ca = own',
    `[own]\ndatabase = ${at('index')}\nserial = ${at('serial')}\nnew_certs_dir = ${directory}`,
    `certificate = ${at('ca.crt')}\nprivate_key = ${at('ca.key')}\ndefault_md = sha256`,
    'policy = any\nunique_subject = no\ndefault_days = 30',
    '[any]\ncommonName = optional\norganizationName = optional',
    '[req]\ndistinguished_name = dn\n[dn]\n',
  ].join('\n');
  await writeFile(at('ca.conf'), config);
  await writeFile(at('index'), '');
  await writeFile(at('serial'), '1000\n');
  let count = 0;
  return {
    cert: await readFile(at('ca.crt'), 'utf8'),
    directory,
    issue: async ({ subject, usage = 'clientAuth', names, from, to }) => {
      const [key, csr, crt, ext] = ['key', 'csr', 'crt', 'ext'].map((end) => at(`${count}.${end}`));
      count++;
      await openssl(
        ...['req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
        ...['-keyout', key!, '-out', csr!, '-subj', subject],
      );
      const san = names === undefined ? '' : `subjectAltName = ${names}\n`;
      await writeFile(ext!, `keyUsage = digitalSignature\nextendedKeyUsage = ${usage}\n${san}`);
      await openssl(
        ...['ca', '-batch', '-notext', '-preserveDN', '-config', at('ca.conf')],
        ...['-in', csr!, '-out', crt!, '-extfile', ext!],
        ...(from === undefined ? [] : ['-startdate', from]),
        ...(to === undefined ? [] : ['-enddate', to]),
      );
      return { cert: await readFile(crt!, 'utf8'), key: await readFile(key!, 'utf8') };
    },
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}
