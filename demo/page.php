<?php
// The application of the demonstration: it reads the site's .env, adds a row to its database and counts the rows.
header('Content-Type: text/plain');
$env = [];
foreach (file(posix_getpwuid(posix_geteuid())['dir'] . '/.env') as $line) {
    if (preg_match('/^([A-Z_][A-Z0-9_]*)="(.*)"$/', rtrim($line), $part)) {
        $env[$part[1]] = stripcslashes($part[2]);
    }
}
printf("%s: PHP %s as %s", $env['APP_URL'], PHP_MAJOR_VERSION . '.' . PHP_MINOR_VERSION, posix_getpwuid(posix_geteuid())['name']);
printf(", memory limit %s", ini_get('memory_limit'));
if (isset($env['DB_CONNECTION'])) {
    $dsn = sprintf('%s:host=%s;port=%s;dbname=%s', $env['DB_CONNECTION'], $env['DB_HOST'], $env['DB_PORT'], $env['DB_DATABASE']);
    $db = new PDO($dsn, $env['DB_USERNAME'], $env['DB_PASSWORD'], [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
    $db->exec('CREATE TABLE IF NOT EXISTS visits (at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)');
    $db->exec('INSERT INTO visits (at) VALUES (CURRENT_TIMESTAMP)');
    printf(", visit %d in %s database %s", $db->query('SELECT COUNT(*) FROM visits')->fetchColumn(), $env['DB_CONNECTION'], $env['DB_DATABASE']);
}
echo "\n";
