#include "common/daemon.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int daemon_set_text(void *field, const char *value, char *error, size_t error_size)
{
	char **text = field, *copy;

	if (value[0] == '\0') {
		snprintf(error, error_size, "it is empty");
		return -EINVAL;
	}
	copy = strdup(value);
	if (!copy)
		return -ENOMEM;
	free(*text);
	*text = copy;
	return 0;
}

int daemon_set_switch(void *field, const char *value, char *error, size_t error_size)
{
	(void)value;
	(void)error;
	(void)error_size;
	*(bool *)field = true;
	return 0;
}

int daemon_set_addresses(struct address_list *list, uint16_t port, const char *value, char *error, size_t error_size)
{
	int err = address_list_parse(value, port, list);

	if (err)
		snprintf(error, error_size, "\"%s\" is no address; it must be HOST[:PORT][,HOST[:PORT]...]", value);
	return err;
}

int daemon_set_mgs(void *field, const char *value, char *error, size_t error_size)
{
	return daemon_set_addresses(field, ADDRESS_PORT_DEFAULT, value, error, error_size);
}
