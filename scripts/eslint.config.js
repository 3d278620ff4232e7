// Lint: npx eslint -c scripts/eslint.config.js src test scripts
//
// Beside the usual rules (with types) it holds the architecture: which room may import which, that
// only src/base touches time and chance, and that the pure rooms stay pure. src/README.md says why.
import { dirname, join } from 'node:path';
import tseslint from 'typescript-eslint';

const root = dirname(import.meta.dirname);

/** The rooms of src from the bottom up. Each may import itself and what its list names. */
const PURE = ['kube', 'pod', 'node'];
const DRIVERS = ['linux', 'store', 'cri', 'cgroup', 'apiserver', 'mqtt'];
const FEATURES = [
  ...['source', 'volume', 'probe', 'hardware', 'usage', 'server', 'doctor', 'relay'],
];
/** Files of a feature that are as pure as the pure rooms. */
const PURE_FILES = ['relay/{message,shape,topic,codec,deadband,fold,home-assistant}.ts'];
const ROOMS = ['base', ...PURE, ...DRIVERS, ...FEATURES, 'agent', 'command'];
const MAY_IMPORT = {
  base: [],
  kube: ['base'],
  pod: ['base', 'kube'],
  node: ['base', 'kube', 'pod'],
  ...Object.fromEntries(DRIVERS.map((room) => [room, ['base', ...PURE]])),
  ...Object.fromEntries(FEATURES.map((room) => [room, ['base', ...PURE, ...DRIVERS]])),
  // A finding is a finding, whoever found it: the doctor uses the server's type for one.
  doctor: ['base', ...PURE, ...DRIVERS, 'server/api.ts'],
  agent: ['base', ...PURE, ...DRIVERS, ...FEATURES],
  command: ['base', ...PURE, ...DRIVERS, ...FEATURES, 'agent'],
};

const layer = (room) => {
  const allowed = MAY_IMPORT[room] ?? [];
  const patterns = ROOMS.filter((other) => other !== room && !allowed.includes(other)).map(
    (other) => {
      const files = allowed.filter((path) => path.startsWith(`${other}/`));
      const except = files.map((path) => path.slice(other.length + 1).replace('.', '\\.'));
      const rest = except.length === 0 ? '' : `(?!(${except.join('|')})$)`;
      return {
        regex: `^\\.\\./(\\.\\./)*${other}/${rest}`,
        message: `src/${room} may not know src/${other}: imports go down the layers only.`,
      };
    },
  );
  return { patterns };
};

const noProcess = {
  name: 'node:child_process',
  importNames: ['exec', 'execSync'],
  message: 'No shell: use spawn or execFile with a list of arguments.',
};

const pureImports = {
  regex: '^(node:|yaml$|better-sqlite3$)',
  message: 'This room is pure: what it decides on comes in as an argument.',
  // A type of a library that comes in as an argument is no dependency at run time.
  allowTypeImports: true,
};

const clientImports = {
  regex: '^@kubernetes/client-node',
  message: 'Only its types: as a whole it costs 30 MB. src/apiserver/kubeconfig.ts loads a part.',
  allowTypeImports: true,
};

const timeGlobals = [
  ['setTimeout', 'Clock.sleep or Clock.at'],
  ['setInterval', 'Clock.at'],
  ['setImmediate', 'Clock.soon'],
  ['performance', 'Clock.now().monoMs'],
].map(([name, instead]) => ({ name, message: `Only src/base touches time: use ${instead}.` }));

const timeSyntax = [
  {
    selector: "CallExpression[callee.object.name='Date'][callee.property.name='now']",
    message: 'Only src/base touches time: use Clock.now().wallMs.',
  },
  {
    selector: "NewExpression[callee.name='Date'][arguments.length=0]",
    message: 'Only src/base touches time: use Clock.now().wallMs.',
  },
  {
    selector: "CallExpression[callee.object.name='Math'][callee.property.name='random']",
    message: 'Only src/base touches chance: use Random.',
  },
  {
    selector: 'CallExpression[callee.property.name=/^(randomUUID|randomBytes|randomInt)$/]',
    message: 'Only src/base touches chance: use Random.',
  },
  {
    selector: "MemberExpression[object.name='process'][property.name='hrtime']",
    message: 'Only src/base touches time: use Clock.now().monoMs.',
  },
];

const shellSyntax = {
  selector: "Property[key.name='shell'][value.value=true]",
  message: 'No shell: give the program and its arguments as a list.',
};

const promiseSyntax = [
  { selector: ':function[async=true]', message: 'This room is pure: no promises.' },
  { selector: 'AwaitExpression', message: 'This room is pure: no promises.' },
  { selector: "NewExpression[callee.name='Promise']", message: 'This room is pure: no promises.' },
  {
    selector: "CallExpression[callee.object.name='Promise']",
    message: 'This room is pure: no promises.',
  },
];

export default tseslint.config(
  { ignores: ['**/node_modules/**', 'dist/**'] },
  {
    files: ['src/**/*.ts', 'test/**/*.ts', 'scripts/**/*.ts'],
    extends: [...tseslint.configs.recommendedTypeChecked],
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: root },
    },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      '@typescript-eslint/consistent-type-imports': [
        'error',
        { fixStyle: 'inline-type-imports', disallowTypeAnnotations: false },
      ],
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/no-unused-vars': [
        'error',
        { argsIgnorePattern: '^_', varsIgnorePattern: '^_' },
      ],
      '@typescript-eslint/no-unnecessary-condition': 'off',
      '@typescript-eslint/require-await': 'off',
      // Records of functions are written with methods and use no `this`.
      '@typescript-eslint/unbound-method': 'off',
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      eqeqeq: ['error', 'always'],
      'no-console': 'error',
      'no-restricted-syntax': ['error', shellSyntax],
      '@typescript-eslint/no-restricted-imports': ['error', { paths: [noProcess] }],
      'max-lines': ['error', { max: 500, skipComments: false }],
    },
  },
  {
    files: ['src/**/*.ts'],
    rules: {
      'max-lines-per-function': [
        'error',
        { max: 80, skipBlankLines: true, skipComments: true, IIFEs: true },
      ],
      'no-restricted-globals': ['error', ...timeGlobals],
      'no-restricted-syntax': ['error', shellSyntax, ...timeSyntax],
    },
  },
  ...ROOMS.map((room) => {
    const pure = PURE.includes(room);
    const patterns = [...layer(room).patterns, clientImports];
    const time = room === 'base' ? [] : timeSyntax;
    return {
      files: [`src/${room}/**/*.ts`],
      rules: {
        '@typescript-eslint/no-restricted-imports': [
          'error',
          { paths: [noProcess], patterns: pure ? [...patterns, pureImports] : patterns },
        ],
        'no-restricted-globals': room === 'base' ? 'off' : ['error', ...timeGlobals],
        'no-restricted-syntax': ['error', shellSyntax, ...time, ...(pure ? promiseSyntax : [])],
      },
    };
  }),
  {
    files: PURE_FILES.map((file) => `src/${file}`),
    rules: {
      '@typescript-eslint/no-restricted-imports': [
        'error',
        { paths: [noProcess], patterns: [...layer('relay').patterns, clientImports, pureImports] },
      ],
      'no-restricted-syntax': ['error', shellSyntax, ...timeSyntax, ...promiseSyntax],
    },
  },
  {
    files: ['test/**/*.ts', 'scripts/**/*.ts'],
    rules: {
      'no-console': 'off',
      '@typescript-eslint/no-misused-promises': ['error', { checksVoidReturn: false }],
      // node:test collects the promises of its own calls.
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafeCalls: [
            { from: 'package', name: ['test', 'it', 'describe', 'suite'], package: 'node:test' },
          ],
        },
      ],
    },
  },
);
